/* SPDX-License-Identifier: GPL-2.0 */
/*
 * regcheck_round(): loads every register from the structure that GS points to,
 * waits, and stores every register. It reaches the structure through GS, so
 * that it can use all general registers.
 */
#include "regcheck.h"

	.macro	each_gpr from to_memory
	.set	at, \from
	.irp	reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	.if	\to_memory
	movq	%\reg, %gs:at
	.else
	movq	%gs:at, %\reg
	.endif
	.set	at, at + 8
	.endr
	.endm

	.macro	each_vector op width from to_memory
	.set	at, \from
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	.if	\to_memory
	\op	%\width\n, %gs:at
	.else
	\op	%gs:at, %\width\n
	.endif
	.set	at, at + 32
	.endr
	.endm

	.text
	.globl	regcheck_round
	.type	regcheck_round, @function
regcheck_round:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, %gs:ROUND_RSP

	ldmxcsr	%gs:ROUND_MXCSR
	fninit
	fldcw	%gs:ROUND_FCW
	.set	at, ROUND_X87_IN + 0x70
	.rept	8
	fldt	%gs:at
	.set	at, at - 0x10
	.endr

	cmpq	$0, %gs:ROUND_AVX
	je	1f
	each_vector vmovups ymm ROUND_VEC_IN 0
	jmp	2f
1:	each_vector movups xmm ROUND_VEC_IN 0
2:
	each_gpr ROUND_GPR_IN 0
	pushq	%gs:ROUND_FLAGS_IN
	cmpl	$-1, %gs:ROUND_SYSCALL
	jne	4f
	popfq

	/* DEC doesn't change CF; nothing else changes DF and ID */
3:	decq	%gs:ROUND_TURNS
	jnz	3b
	jmp	6f

	/* The same through the kernel: SYSCALL changes RAX, RCX and R11 */
4:	popfq
5:	movq	%gs:ROUND_SYSCALL, %rax
	syscall
	decq	%gs:ROUND_TURNS
	jnz	5b

6:	pushfq
	popq	%gs:ROUND_FLAGS_OUT
	cld
	each_gpr ROUND_GPR_OUT 1
	/* RSP must be unchanged: the caller checks the difference */
	movq	%rsp, %rax
	subq	%rax, %gs:ROUND_RSP
	movq	%fs:0, %rax
	movq	%rax, %gs:ROUND_FS_WORD

	cmpq	$0, %gs:ROUND_AVX
	je	7f
	each_vector vmovups ymm ROUND_VEC_OUT 1
	vzeroupper
	jmp	8f
7:	each_vector movups xmm ROUND_VEC_OUT 1
8:
	stmxcsr	%gs:(ROUND_MXCSR + 4)
	fnstcw	%gs:(ROUND_FCW + 4)
	.set	at, ROUND_X87_OUT
	.rept	8
	fstpt	%gs:at
	.set	at, at + 0x10
	.endr
	fninit

	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret
	.size	regcheck_round, . - regcheck_round
	.section .note.GNU-stack, "", @progbits
