// SPDX-License-Identifier: GPL-2.0
/*
 * Symcall MEMORY: the guest's memory use.
 *
 * Reads counters only: si_meminfo() and si_swapinfo() take locks that the
 * interrupted task may hold.
 */
#include <linux/mm.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "symbiotic.h"

u64 symbiotic_symcall_memory(struct symbiotic_registers *regs)
{
	struct symbiotic_memory *to;
	void *start;
	u64 err;

	err = symbiotic_range(regs, sizeof(*to), &start);
	if (err)
		return err;
	to = start;
	to->page_size = PAGE_SIZE;
	to->total = totalram_pages();
	to->free = global_zone_page_state(NR_FREE_PAGES);
	to->swap_cached = global_node_page_state(NR_SWAPCACHE);
	to->file = global_node_page_state(NR_FILE_PAGES) - to->swap_cached;
	to->dirty = global_node_page_state(NR_FILE_DIRTY);
	to->writeback = global_node_page_state(NR_WRITEBACK);
	to->anonymous = global_node_page_state(NR_ANON_MAPPED);
	to->mapped = global_node_page_state(NR_FILE_MAPPED);
	to->shared = global_node_page_state(NR_SHMEM);
	to->slab_reclaimable = global_node_page_state_pages(NR_SLAB_RECLAIMABLE_B);
	to->slab_unreclaimable = global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B);
	to->page_tables = global_node_page_state(NR_PAGETABLE);
	to->kernel_stacks = global_node_page_state(NR_KERNEL_STACK_KB) >>
			    (PAGE_SHIFT - 10);
	to->swap_total = symbiotic_total_swap_pages ?
			 READ_ONCE(*symbiotic_total_swap_pages) :
			 SYMBIOTIC_NOT_KNOWN;
	/* May be negative for a moment during swapoff */
	to->swap_free = max(get_nr_swap_pages(), 0L);
	regs->rbx = sizeof(*to);
	return SYMBIOTIC_OK;
}
