/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The first instructions: long mode, interrupts off, RSI = boot_params,
 * RSP = a stack (Linux Documentation/arch/x86/boot.rst, 64-bit protocol).
 */
	.section .text.entry, "ax"
	.globl	_start
	.type	_start, @function
_start:
	cld
	xorl	%ebp, %ebp
	andq	$-16, %rsp
	movq	%rsi, %rdi
	call	start
1:	hlt
	jmp	1b
	.size	_start, . - _start

	.section .note.GNU-stack, "", @progbits
