// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass: ftrace hooks, registered while bypass is on, as live patching
 * registers them. The module's code runs in ftrace's callbacks only, with
 * preemption disabled, so no sleeping task has it on its stack, and no callback
 * runs after unregister_ftrace_function() returns.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/ftrace.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/version.h>

#include "swapbypass.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define READ_FUNCTION	"swap_read_folio"
static unsigned long first_argument(struct ftrace_regs *fregs)
{
	return ftrace_regs_get_argument(fregs, 0);
}

static unsigned long second_argument(struct ftrace_regs *fregs)
{
	return ftrace_regs_get_argument(fregs, 1);
}
#else
#define READ_FUNCTION	"swap_readpage"
static unsigned long first_argument(struct ftrace_regs *fregs)
{
	return fregs->regs.di;
}

static unsigned long second_argument(struct ftrace_regs *fregs)
{
	return fregs->regs.si;
}

#define ftrace_regs_set_instruction_pointer ftrace_instruction_pointer_set
#endif

/* Replaces do_swap_page() when the page is mapped */
static notrace vm_fault_t page_is_mapped(struct vm_fault *vmf)
{
	return 0;
}

/* do_swap_page(vmf): a fault on a swapped page */
static void notrace on_fault(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct vm_fault *vmf = (struct vm_fault *)first_argument(fregs);

	if (!swap_bypass_fault(vmf))
		return;
	/* do_swap_page() would have unmapped it, which since 6.5 unlocks RCU */
	pte_unmap(vmf->pte);
	vmf->pte = NULL;
	ftrace_regs_set_instruction_pointer(fregs, (unsigned long)page_is_mapped);
}

/*
 * swap_readpage(page), swap_read_folio(folio): the kernel is about to read a
 * slot into a page of the swap cache. The page is locked; no spinlock is held.
 */
static void notrace on_read(unsigned long ip, unsigned long parent_ip,
			    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct swap_info_struct *device;
	unsigned long slot, pages = 1;
	swp_entry_t entry;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	struct folio *folio = (struct folio *)first_argument(fregs);

	entry = folio->swap;
	pages = folio_nr_pages(folio);
#else
	struct page *page = (struct page *)first_argument(fregs);

	entry.val = page_private(page);
#endif
	device = swap_symbols.swp_swap_info(entry);
	if (!device || !swap_guards(SWAP_GUARD_READ))
		return;
	/* Pairs with the barrier in map_entries(), which says why */
	smp_mb();
	/* Another device's slot may have the same number; a needless restore is harmless */
	for (slot = swp_offset(entry); pages; slot++, pages--)
		if (slot < swap_window_pages)
			swap_restore_slot(slot);
}

/*
 * get_dev_pagemap(pfn, ...): get_user_pages() is about to pin the page of a
 * devmap entry. It holds the ptl. get_user_pages_fast() disables interrupts
 * instead; it gets no page and falls back to get_user_pages().
 */
static void notrace on_pin(unsigned long ip, unsigned long parent_ip,
			   struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	const unsigned long slot = first_argument(fregs) - swap_window_pfn;

	if (slot < swap_window_pages && !irqs_disabled() &&
	    swap_guards(SWAP_GUARD_PIN))
		swap_restore_pinned(slot);
}

/*
 * disable_swap_slots_cache_lock(): swapoff has just cleared SWP_WRITEOK, so
 * the module maps nothing of this device, and will scan for swap entries next,
 * until no slot is in use.
 */
static void notrace on_swapoff(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	if (swap_guards(SWAP_GUARD_SWAPOFF))
		swap_restore_all();
}

/*
 * __mm_populate(start, len, ...): mlock() has set VM_LOCKED, so the module
 * maps nothing in the area, and now swaps its pages in. The kernel would skip an
 * entry that maps the window. No lock is held.
 */
static void notrace on_populate(unsigned long ip, unsigned long parent_ip,
				struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	const unsigned long start = first_argument(fregs);
	const unsigned long length = second_argument(fregs);

	if (length && length <= ULONG_MAX - start && swap_guards(SWAP_GUARD_MLOCK))
		swap_restore_locked(start, start + length);
}

/* ---- One ftrace_ops for all hooks ---------------------------------------------- */

/* A function calls ftrace within its first 16 bytes */
#define CALL_OFFSET	16

static struct hook {
	char *function;
	ftrace_func_t callback;
	unsigned long address;
} hooks[] = {
	{ .function = "do_swap_page", .callback = on_fault },
	{ .function = READ_FUNCTION, .callback = on_read },
	{ .function = "get_dev_pagemap", .callback = on_pin },
	{ .function = "disable_swap_slots_cache_lock", .callback = on_swapoff },
	{ .function = "__mm_populate", .callback = on_populate },
};

static void notrace on_call(unsigned long ip, unsigned long parent_ip,
			    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		if (ip - hooks[i].address < CALL_OFFSET)
			hooks[i].callback(ip, parent_ip, ops, fregs);
}

static struct ftrace_ops ops;

/* On the workqueue. On an error no hook is registered. */
int swap_hook(void)
{
	size_t i;
	int err = 0;

	/* ftrace_free_filter() leaves dangling pointers */
	memset(&ops, 0, sizeof(ops));
	ops.func = on_call;
	ops.flags = FTRACE_OPS_FL_RECURSION | FTRACE_OPS_FL_PERMANENT |
		    FTRACE_OPS_FL_IPMODIFY;
	for (i = 0; !err && i < ARRAY_SIZE(hooks); i++) {
		hooks[i].address = symbiotic_symbol(hooks[i].function);
		err = hooks[i].address ? 0 : -ENOENT;
		if (!err)
			err = ftrace_set_filter(&ops, hooks[i].function,
						strlen(hooks[i].function), !i);
	}
	if (!err)
		err = register_ftrace_function(&ops);
	if (err) {
		pr_err("cannot register the ftrace hooks (%d)\n", err);
		ftrace_free_filter(&ops);
	}
	return err;
}

/* On the workqueue. When it returns, no CPU runs a callback, and none will. */
void swap_unhook(void)
{
	int err = unregister_ftrace_function(&ops);

	if (err)
		pr_err("cannot unregister the ftrace hooks (%d)\n", err);
	ftrace_free_filter(&ops);
}
