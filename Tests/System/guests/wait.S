# SPDX-License-Identifier: Apache-2.0
# Writes "." to the serial port and to a port without a device, over and over; never ends by itself.

	.include "machine.inc"
	.globl	_start
_start:
	mov	$'.', %al
	put
1:	mov	$NO_DEVICE, %dx
	out	%al, %dx
	mov	$2000, %ecx
2:	dec	%ecx
	jnz	2b
	jmp	1b
