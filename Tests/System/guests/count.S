# SPDX-License-Identifier: Apache-2.0
# Writes COUNT bytes to a port without a device, reads it READS times, then powers off (or resets with RESET defined, or halts for good with HALT).

	.include "machine.inc"
	.globl	_start
_start:
	mov	$COUNT, %ecx
	mov	$NO_DEVICE, %dx
1:	out	%al, %dx
	dec	%ecx
	jnz	1b
	mov	$READS, %ecx
2:	in	%dx, %al
	dec	%ecx
	jnz	2b
	.ifdef	RESET
	out8	RESET_CONTROLLER, 0xfe
	.endif
	.ifndef	HALT
	power_off
	.endif
3:	hlt
	jmp	3b
