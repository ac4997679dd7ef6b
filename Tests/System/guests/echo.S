# SPDX-License-Identifier: Apache-2.0
# Writes "ready", then sends every received byte back in capitals; a full stop powers off.

	.include "machine.inc"
	.globl	_start
_start:
	lea	words(%rip), %rsi
1:	lodsb
	test	%al, %al
	jz	2f
	put
	jmp	1b
2:	mov	$SERIAL_LINE_STATUS, %dx
3:	in	%dx, %al
	test	$1, %al
	jz	3b
	mov	$SERIAL, %dx
	in	%dx, %al
	cmp	$'.', %al
	je	5f
	cmp	$'a', %al
	jb	4f
	cmp	$'z', %al
	ja	4f
	sub	$32, %al
4:	put
	jmp	2b
5:	power_off
6:	hlt
	jmp	6b
words:
	.asciz	"ready\n"
