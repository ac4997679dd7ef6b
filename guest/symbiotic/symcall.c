// SPDX-License-Identifier: GPL-2.0
/*
 * Symcalls: dispatch, the direct ones, and the private IDT.
 *
 * The VMM enters at symbiotic_entry (entry.S) with interrupts disabled, on
 * this vCPU's symcall stack. It may have interrupted any instruction: in user
 * mode, in the kernel's entry code, in idle with RCU not watching, with any
 * lock held. So all code that symbiotic_symcall() executes before the check of
 * in_doorbell is noinstr, and accesses only this vCPU's data, by plain loads
 * and stores. Kbuild builds this file without tracing, coverage and sanitizers.
 */
#include <linux/compiler.h>
#include <linux/gfp.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>

#include <asm/current.h>
#include <asm/desc.h>
#include <asm/page_64_types.h>
#include <asm/segment.h>
#include <asm/trapnr.h>

#include "entry.h"
#include "symbiotic.h"
#include "task.h"

static_assert(ENTRY_PORT_RETURN == SYMBIOTIC_PORT_RETURN);
static_assert(ENTRY_PORT_FAIL == SYMBIOTIC_PORT_FAIL);
static_assert(ENTRY_PORT_DOORBELL == SYMBIOTIC_PORT_DOORBELL);
static_assert(ENTRY_E_FAULT == SYMBIOTIC_E_FAULT);

static noinstr u64 ping(struct symbiotic_registers *regs)
{
	return SYMBIOTIC_OK;
}

static noinstr u64 task(struct symbiotic_registers *regs)
{
	const int count = preempt_count();
	struct symbiotic_task now;

	symbiotic_describe(&now, current);
	if (count & HARDIRQ_MASK)
		now.flags |= SYMBIOTIC_TASK_HARDIRQ;
	if (count & SOFTIRQ_MASK)
		now.flags |= SYMBIOTIC_TASK_SOFTIRQ;
	if (count & NMI_MASK)
		now.flags |= SYMBIOTIC_TASK_NMI;
	regs->rbx = (u64)now.tgid << 32 | now.pid;
	regs->rcx = (u64)now.flags << 32 | now.uid;
	regs->rdx = ((u64 *)now.comm)[0];
	regs->rsi = ((u64 *)now.comm)[1];
	regs->rdi = now.start_time;
	return SYMBIOTIC_OK;
}

/*
 * All symcalls. is_direct() says which of them the VMM may inject directly;
 * that never changes at run time.
 */
static symbiotic_handler handlers[SYMBIOTIC_SYMCALL_COUNT] = {
	[SYMBIOTIC_SYMCALL_PING] = ping,
	[SYMBIOTIC_SYMCALL_TASK] = task,
	[SYMBIOTIC_SYMCALL_UNAME] = symbiotic_symcall_uname,
	[SYMBIOTIC_SYMCALL_TASKS] = symbiotic_symcall_tasks,
	[SYMBIOTIC_SYMCALL_MEMORY] = symbiotic_symcall_memory,
	[SYMBIOTIC_SYMCALL_LOG] = symbiotic_symcall_log,
};

static DEFINE_SPINLOCK(handlers_lock);

static __always_inline bool is_direct(u64 number)
{
	return number == SYMBIOTIC_SYMCALL_PING ||
	       number == SYMBIOTIC_SYMCALL_TASK ||
	       number >= SYMBIOTIC_SYMCALL_TEST_SPIN;
}

static __always_inline u64 dispatch(struct symbiotic_registers *regs)
{
	const u64 number = regs->rax;
	symbiotic_handler handler;

	if (number >= SYMBIOTIC_SYMCALL_COUNT)
		return SYMBIOTIC_E_UNKNOWN;
	handler = READ_ONCE(handlers[number]);
	if (!handler)
		return SYMBIOTIC_E_UNKNOWN;
	if (!is_direct(number) && !__this_cpu_read(symbiotic_cpu.in_doorbell))
		return SYMBIOTIC_E_CONTEXT;
	return handler(regs);
}

/* Called by entry.S */
noinstr void symbiotic_symcall(struct symbiotic_registers *regs)
{
	struct symbiotic_local_page *page = __this_cpu_read(symbiotic_cpu.local);

	page->symcalls++;
	regs->rax = dispatch(regs);
	if (regs->rax)
		page->symcall_errors++;
}

/*
 * Finds the range of the shared buffer that a symcall's RBX and RCX name, of at
 * least @least bytes. Returns SYMBIOTIC_OK or an error for RAX.
 */
u64 symbiotic_range(const struct symbiotic_registers *regs, size_t least,
		    void **start)
{
	const u64 offset = regs->rbx, length = regs->rcx;

	if (!symbiotic_buffer)
		return SYMBIOTIC_E_NO_BUFFER;
	if ((offset | length) % SYMBIOTIC_BUFFER_ALIGN ||
	    length > symbiotic_buffer_size ||
	    offset > symbiotic_buffer_size - length)
		return SYMBIOTIC_E_INVALID;
	if (length < least)
		return SYMBIOTIC_E_TOO_SMALL;
	*start = symbiotic_buffer + offset;
	return SYMBIOTIC_OK;
}

/* ---- The table of symcalls ------------------------------------------------ */

static void publish_symcall(unsigned int number, bool exists)
{
	const u64 bit = 1ULL << (number % 64);
	u64 *all = &symbiotic_global->symcalls[number / 64];
	u64 *direct = &symbiotic_global->direct[number / 64];

	WRITE_ONCE(*all, exists ? *all | bit : *all & ~bit);
	if (is_direct(number))
		WRITE_ONCE(*direct, exists ? *direct | bit : *direct & ~bit);
}

void symbiotic_publish_symcalls(void)
{
	unsigned int number;

	for (number = 0; number < SYMBIOTIC_SYMCALL_COUNT; number++)
		if (handlers[number])
			publish_symcall(number, true);
}

/* Adds a service's symcall, which the VMM makes only inside a doorbell's exit */
int symbiotic_add_symcall(unsigned int number, symbiotic_handler handler)
{
	unsigned long flags;
	int err = -EBUSY;

	if (number >= SYMBIOTIC_SYMCALL_COUNT)
		return -EINVAL;
	spin_lock_irqsave(&handlers_lock, flags);
	if (!handlers[number]) {
		WRITE_ONCE(handlers[number], handler);
		if (symbiotic_global)
			publish_symcall(number, true);
		err = 0;
	}
	spin_unlock_irqrestore(&handlers_lock, flags);
	return err;
}

/* When it returns, no vCPU runs the handler, and none will */
void symbiotic_remove_symcall(unsigned int number)
{
	unsigned long flags;

	spin_lock_irqsave(&handlers_lock, flags);
	WRITE_ONCE(handlers[number], NULL);
	if (symbiotic_global)
		publish_symcall(number, false);
	spin_unlock_irqrestore(&handlers_lock, flags);
	/* A doorbell disables interrupts, which is an RCU read-side critical section */
	synchronize_rcu();
}

/* ---- The private IDT ------------------------------------------------------ */

static struct gate_struct *idt;

struct desc_ptr symbiotic_private_idt;
struct desc_ptr symbiotic_kernel_idt;
unsigned long symbiotic_kernel_nmi;

static void set_address(struct gate_struct *gate, unsigned long address)
{
	gate->offset_low = (u16)address;
	gate->offset_middle = (u16)(address >> 16);
	gate->offset_high = (u32)(address >> 32);
}

static void set_gate(unsigned int vector, unsigned long address, unsigned int ist)
{
	struct gate_struct gate = {
		.segment = __KERNEL_CS,
		.bits = {
			.ist = ist,
			.type = GATE_INTERRUPT,
			.dpl = 0,
			.p = 1,
		},
	};

	set_address(&gate, address);
	idt[vector] = gate;
}

/*
 * Gates that stay the kernel's, whose entry code works at any instruction. The
 * kernel uses #BP to patch its text. A handler does not cause NMIs, machine
 * checks and watchpoints.
 */
static const u8 kernel_gates[] = {
	X86_TRAP_DB, X86_TRAP_NMI, X86_TRAP_BP, X86_TRAP_MC,
};

int symbiotic_build_idt(void)
{
	const struct gate_struct *kernel_idt;
	unsigned int i;

	BUILD_BUG_ON(sizeof(struct gate_struct) * 256 != PAGE_SIZE);

	idt = (struct gate_struct *)get_zeroed_page(GFP_KERNEL);
	if (!idt)
		return -ENOMEM;
	for (i = 0; i < 256; i++)
		set_gate(i, symbiotic_fault_stubs[i], 0);
	/* After a stack overflow, #DF needs another stack */
	set_gate(X86_TRAP_DF, symbiotic_fault_stubs[X86_TRAP_DF],
		 IST_INDEX_DF + 1);

	store_idt(&symbiotic_kernel_idt);
	kernel_idt = (const struct gate_struct *)symbiotic_kernel_idt.address;
	for (i = 0; i < ARRAY_SIZE(kernel_gates); i++)
		idt[kernel_gates[i]] = kernel_idt[kernel_gates[i]];
	symbiotic_kernel_nmi = gate_offset(&kernel_idt[X86_TRAP_NMI]);
	set_address(&idt[X86_TRAP_NMI], (unsigned long)symbiotic_nmi);
	symbiotic_private_idt.address = (unsigned long)idt;
	symbiotic_private_idt.size = SYMBIOTIC_IDT_LIMIT;
	return 0;
}

void symbiotic_free_idt(void)
{
	/* symbiotic_unregister_vm() failed: the VMM may still load it */
	if (symbiotic_global)
		return;
	free_page((unsigned long)idt);
	idt = NULL;
}

unsigned long symbiotic_idt_address(void)
{
	return (unsigned long)idt;
}
