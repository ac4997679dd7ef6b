# SPDX-License-Identifier: Apache-2.0
# Resets the machine by WAY: 1 the chipset's reset control register, as Linux with reboot=pci; 2 a triple fault after the BIOS's reset flag,
# as Linux with reboot=triple; 3 the register without a rising reset bit, then a power-off.

	.include "machine.inc"
	.set	RESET_CONTROL, 0xcf9
	.globl	_start
_start:
	.if	WAY == 1
	mov	$RESET_CONTROL, %dx
	in	%dx, %al
	and	$~6, %al
	or	$2, %al
	out	%al, %dx
	or	$6, %al
	out	%al, %dx
	.endif
	.if	WAY == 2
	movw	$0, 0x472
	lidt	empty(%rip)
	ud2
	.endif
	.if	WAY == 3
	out8	RESET_CONTROL, 2
	power_off
	.endif
1:	hlt
	jmp	1b
empty:	.word	0
	.quad	0
