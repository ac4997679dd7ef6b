/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Entry points for symcalls and for faults in their handlers. The kernel
 * calls neither, and neither returns to it: the VMM restores the interrupted
 * registers.
 *
 * Also symbiotic_ring(), which contains the fast doorbell.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <linux/version.h>

#include <asm/ibt.h>
#include <asm/nospec-branch.h>
#include <asm/unwind_hints.h>

#include "entry.h"

/* The stack ends here: there is no caller */
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
	/* Not reached: the VMM restores the interrupted registers */
	jmp	symbiotic_stuck
SYM_CODE_END(symbiotic_entry)

/* A VMM that resumes the handler here violates the ABI */
SYM_CODE_START_LOCAL(symbiotic_stuck)
	HINT_TOP
1:	hlt
	jmp	1b
SYM_CODE_END(symbiotic_stuck)

/* On the stack: vector, error code, RIP, CS, RFLAGS, RSP, SS */
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
 * An NMI while the private IDT is loaded. The kernel's NMI handler may fault
 * and recover through its exception tables, so load the kernel's IDT first. The
 * rest of the symcall's handler runs with the kernel's IDT.
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
 * With interrupts disabled. At the OUT of symbiotic_fast_doorbell, CS, GS base,
 * CR3 and IDTR are those that a handler needs, so the VMM changes only the
 * general registers for a symcall.
 */
SYM_FUNC_START(symbiotic_ring)
	pushq	%rbx
	movl	%edi, %eax
	movq	%rsi, %rbx
	xchgq	%rdx, %rcx
	movq	%r8, %rsi
	movq	%r9, %rdi
	lidt	symbiotic_private_idt(%rip)
SYM_INNER_LABEL(symbiotic_fast_doorbell, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR
	outb	%al, $ENTRY_PORT_DOORBELL
	lidt	symbiotic_kernel_idt(%rip)
	popq	%rbx
	RET
SYM_FUNC_END(symbiotic_ring)

/* One stub for each vector, 16 bytes each; 8, 10-14, 17, 21, 29, 30 push an error code */
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
