# SPDX-License-Identifier: Apache-2.0
# Writes a line to the serial port, then waits for an interrupt that never comes.

	.include "machine.inc"
	.globl	_start
_start:
	mov	$'!', %al
	put
	mov	$'\n', %al
	put
	cli
1:	hlt
	jmp	1b
