/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the VMM enters the guest for a symcall, and where faults in a
 * symcall's handler end. Neither is ever called by the kernel, and neither
 * ever returns to it: the VMM puts back what it interrupted.
 *
 * And the doorbell's gate, where the kernel calls the VMM.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <linux/version.h>

#include <asm/ibt.h>
#include <asm/nospec-branch.h>
#include <asm/unwind_hints.h>

#include "entry.h"

/* No caller to unwind to */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define HINT_TOP	UNWIND_HINT_END_OF_STACK
#else
#define HINT_TOP	UNWIND_HINT_EMPTY
#endif

	.section .noinstr.text, "ax"

/*
 * RAX = number, RBX RCX RDX RSI RDI = arguments; RSP = top of this vCPU's
 * symcall stack, a multiple of 16. Pushes struct symbiotic_registers, which
 * leaves RSP aligned for the call.
 */
SYM_CODE_START(symbiotic_entry)
	HINT_TOP
	ENDBR
	pushq	%rdi
	pushq	%rsi
	pushq	%rdx
	pushq	%rcx
	pushq	%rbx
	pushq	%rax
	movq	%rsp, %rdi
	xorl	%ebp, %ebp
	call	symbiotic_symcall
	popq	%rax
	popq	%rbx
	popq	%rcx
	popq	%rdx
	popq	%rsi
	popq	%rdi
	outb	%al, $ENTRY_PORT_RETURN
	/* Not reached: the VMM has restored what it interrupted */
	jmp	symbiotic_stuck
SYM_CODE_END(symbiotic_entry)

/* A VMM that resumes us here broke the ABI. It has a time limit. */
SYM_CODE_START_LOCAL(symbiotic_stuck)
	HINT_TOP
1:	hlt
	jmp	1b
SYM_CODE_END(symbiotic_stuck)

/* Stack: vector, error code, RIP, CS, RFLAGS, RSP, SS */
SYM_CODE_START_LOCAL(symbiotic_fault)
	HINT_TOP
	movq	0x00(%rsp), %rbx
	movq	0x08(%rsp), %rcx
	movq	0x10(%rsp), %rdx
	movq	%cr2, %rsi
	movq	0x28(%rsp), %rdi
	movl	$ENTRY_E_FAULT, %eax
	outb	%al, $ENTRY_PORT_FAIL
	jmp	symbiotic_stuck
SYM_CODE_END(symbiotic_fault)

/*
 * An NMI while the private IDT is loaded. The kernel's handler may count on
 * faults that it mends itself, so the kernel's IDT comes first. What is left
 * of a symcall's handler then runs with that one.
 */
SYM_CODE_START(symbiotic_nmi)
	UNWIND_HINT_IRET_REGS
	ENDBR
	lidt	symbiotic_kernel_idt(%rip)
	ANNOTATE_RETPOLINE_SAFE
	jmp	*symbiotic_kernel_nmi(%rip)
SYM_CODE_END(symbiotic_nmi)

/*
 * void symbiotic_ring(u8 number, u64 rbx, u64 rcx, u64 rdx, u64 rsi, u64 rdi)
 *
 * With interrupts off. The OUT at symbiotic_gate tells the VMM that CS, GS,
 * CR3 and the IDT are those that a handler needs, so that it changes nothing
 * but the general registers for a symcall.
 */
SYM_FUNC_START(symbiotic_ring)
	pushq	%rbx
	movl	%edi, %eax
	movq	%rsi, %rbx
	xchgq	%rdx, %rcx
	movq	%r8, %rsi
	movq	%r9, %rdi
	lidt	symbiotic_own_idt(%rip)
SYM_INNER_LABEL(symbiotic_gate, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR
	outb	%al, $ENTRY_PORT_DOORBELL
	lidt	symbiotic_kernel_idt(%rip)
	popq	%rbx
	RET
SYM_FUNC_END(symbiotic_ring)

/* One stub a vector, 16 bytes each; 8, 10-14, 17, 21, 29 and 30 push a code */
	.balign 16
SYM_CODE_START(symbiotic_fault_stub)
	.set	vector, 0
	.rept	256
	.balign 16
	HINT_TOP
	ENDBR
	.if	vector > 31 || ((0x60227d00 >> (vector & 31)) & 1) == 0
	pushq	$0
	.endif
	pushq	$vector
	jmp	symbiotic_fault
	.set	vector, vector + 1
	.endr
	.balign 16
SYM_CODE_END(symbiotic_fault_stub)

	.section .rodata, "a"
	.balign 8
SYM_DATA_START(symbiotic_fault_stubs)
	.set	vector, 0
	.rept	256
	.quad	symbiotic_fault_stub + 16 * vector
	.set	vector, vector + 1
	.endr
SYM_DATA_END(symbiotic_fault_stubs)
