# SPDX-License-Identifier: Apache-2.0
# Reports VALUE (32 bits) to the test device. Without one, powers off.

	.include "machine.inc"
	.globl	_start
_start:
	mov	$0xf4, %dx
	mov	$VALUE, %eax
	out	%eax, %dx
	power_off
1:	hlt
	jmp	1b
