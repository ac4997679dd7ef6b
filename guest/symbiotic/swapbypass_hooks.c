// SPDX-License-Identifier: GPL-2.0
/*
 * Where the kernel is hooked while bypass is on, by ftrace, as live patching
 * does it. Everything happens within ftrace's callbacks: none of our code is
 * on a stack while the kernel's own sleeps, so that unhooking is complete when
 * ftrace says so. Callbacks run with preemption off; each looks at its
 * function's first argument.
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
#else
#define READ_FUNCTION	"swap_readpage"
static unsigned long first_argument(struct ftrace_regs *fregs)
{
	return fregs->regs.di;
}

#define ftrace_regs_set_instruction_pointer ftrace_instruction_pointer_set
#endif

/* What do_swap_page() is when its work is done */
static notrace vm_fault_t page_is_there(struct vm_fault *vmf)
{
	return 0;
}

/* do_swap_page(vmf): the task touched a page that is not there */
static void notrace on_fault(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct vm_fault *vmf = (struct vm_fault *)first_argument(fregs);

	if (!swap_bypass_fault(vmf))
		return;
	/* do_swap_page() would have done it; an RCU read lock since 6.5 */
	pte_unmap(vmf->pte);
	vmf->pte = NULL;
	ftrace_regs_set_instruction_pointer(fregs, (unsigned long)page_is_there);
}

/*
 * swap_readpage(page), swap_read_folio(folio): a slot is about to be read
 * into a page of the swap cache. The page is locked; no spinlock is held.
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
	if (!device)
		return;
	/* The page is in the swap cache; see map_entries() */
	smp_mb();
	/* Another device's slot may have the same number: then all that is lost is time */
	for (slot = swp_offset(entry); pages; slot++, pages--)
		if (slot < swap_window_pages)
			swap_restore_slot(slot);
}

/*
 * get_dev_pagemap(pfn, ...): get_user_pages() wants the page behind an entry
 * that says devmap. It holds the ptl; get_user_pages_fast() has interrupts
 * off instead, finds nothing and goes on to get_user_pages().
 */
static void notrace on_pin(unsigned long ip, unsigned long parent_ip,
			   struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	const unsigned long slot = first_argument(fregs) - swap_window_pfn;

	if (slot < swap_window_pages && !irqs_disabled())
		swap_restore_pinned(slot);
}

/*
 * disable_swap_slots_cache_lock(): swapoff, which has just cleared SWP_WRITEOK
 * (so that nothing is mapped any more) and will look for swap entries next.
 */
static void notrace on_swapoff(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	swap_restore_all();
}

static struct hook {
	char *function;
	ftrace_func_t callback;
	bool is_set;
	struct ftrace_ops ops;
} hooks[] = {
	/* In this order: what guards a mapping is there before the first one */
	{ .function = READ_FUNCTION, .callback = on_read },
	{ .function = "get_dev_pagemap", .callback = on_pin },
	{ .function = "disable_swap_slots_cache_lock", .callback = on_swapoff },
	{ .function = "do_swap_page", .callback = on_fault },
};

#define FAULTS	(ARRAY_SIZE(hooks) - 1)

static int set_hook(struct hook *hook)
{
	int err;

	/* ftrace_free_filter() leaves pointers to what it has freed */
	memset(&hook->ops, 0, sizeof(hook->ops));
	hook->ops.func = hook->callback;
	hook->ops.flags = FTRACE_OPS_FL_RECURSION | FTRACE_OPS_FL_PERMANENT;
	if (hook->callback == on_fault)
		hook->ops.flags |= FTRACE_OPS_FL_IPMODIFY;
	err = ftrace_set_filter(&hook->ops, hook->function,
				strlen(hook->function), 1);
	if (!err)
		err = register_ftrace_function(&hook->ops);
	if (err) {
		ftrace_free_filter(&hook->ops);
		pr_err("can't hook %s (%d)\n", hook->function, err);
		return err;
	}
	hook->is_set = true;
	return 0;
}

static void remove_hook(struct hook *hook)
{
	int err;

	if (!hook->is_set)
		return;
	/* Returns when no CPU is in the callback, and none will be */
	err = unregister_ftrace_function(&hook->ops);
	if (err)
		pr_err("can't unhook %s (%d)\n", hook->function, err);
	ftrace_free_filter(&hook->ops);
	hook->is_set = false;
}

/* Process context, as all below */
int swap_hook(void)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		err = set_hook(&hooks[i]);
		if (err) {
			swap_unhook();
			return err;
		}
	}
	return 0;
}

/* From here on nothing new is mapped */
void swap_unhook_faults(void)
{
	remove_hook(&hooks[FAULTS]);
}

/* When nothing is mapped any more */
void swap_unhook(void)
{
	size_t i;

	for (i = ARRAY_SIZE(hooks); i-- > 0; )
		remove_hook(&hooks[i]);
}
