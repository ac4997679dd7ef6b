/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Swap bypass: what its files share. docs/SWAPBYPASS.md says how it works.
 *
 *   swapbypass.c         the switch: finds the window, turns on and off
 *   swapbypass_mm.c      the processes, and what happens to their page tables
 *   swapbypass_restore.c the way back of what is mapped to the window
 *   swapbypass_map.c     a fault: doorbell, and the symcall that maps
 *   swapbypass_hooks.c   where the kernel is hooked
 *   swapbypass_quiet.c   a warning that would be beside the point
 *
 * Locks, outermost first: list_lock (swapbypass_mm.c) is a leaf beside the
 * others; swap_mm.lock, then the page-table lock (ptl). Who holds a ptl, and
 * every handler of a symcall, takes swap_mm.lock by trylock only. None is
 * ever taken in an interrupt.
 */
#ifndef SYMBIOTIC_SWAPBYPASS_H
#define SYMBIOTIC_SWAPBYPASS_H

#include <linux/delay.h>
#include <linux/jump_label.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "symbiotic.h"

#define SWAP_ENTRIES	SYMBIOTIC_SWAP_ENTRIES	/* of a page-table page */

/* What one page-table page has mapped to the window; under swap_mm.lock */
struct swap_region {
	unsigned long address;	/* of its first entry */
	/* Valid while count > 0: a page-table page goes only after the notifier */
	pmd_t *pmd;
	unsigned int count;	/* bits set in mapped */
	DECLARE_BITMAP(mapped, SWAP_ENTRIES);
	pte_t *entries;		/* a page: the swap entries as they were */
};

/* A process whose swapped pages may be mapped to the window */
struct swap_mm {
	struct mmu_notifier notifier;
	struct mm_struct *mm;		/* a name; alive while registered */
	struct hlist_node hash;		/* list_lock; read under RCU */
	struct list_head list;		/* list_lock; read under RCU */
	struct work_struct work;	/* introduces, later retires */
	bool is_registered;		/* touched on the queue only */
	struct rcu_head rcu;

	spinlock_t lock;		/* all below, and slots that are its own */
	bool ready;			/* registered, and not yet released */
	unsigned int changes;		/* range_start without range_end */
	unsigned long change_start;	/* covers all of them */
	unsigned long change_end;
	unsigned long mapped;		/* pages of all regions */
	struct xarray regions;		/* by address >> PMD_SHIFT */
};

/* Who has a page of the window mapped. One for each page of it. */
struct swap_slot {
	struct swap_mm *owner;		/* written under owner->lock */
	unsigned long address;
};

struct swap_symbols {
	void (*flush_tlb_mm_range)(struct mm_struct *mm, unsigned long start,
				   unsigned long end, unsigned int stride_shift,
				   bool freed_tables);
	struct swap_info_struct *(*swp_swap_info)(swp_entry_t entry);
	/* Since 6.12: counts who has ever switched zswap on; NULL: it is not compiled in */
	struct static_key *zswap_ever_enabled;
};

/* swapbypass.c; written before the hooks are in place only */
extern struct swap_symbols swap_symbols;
extern struct swap_slot *swap_slots;
extern unsigned long swap_window_pfn;
extern unsigned long swap_window_pages;
extern const unsigned long *swap_held;	/* a bit a slot; NULL: all are held */
extern struct workqueue_struct *swap_queue;
bool swap_is_on(void);

static inline void swap_count(unsigned int counter, u64 number)
{
	atomic64_add(number, (atomic64_t *)&symbiotic_global->swap_counters[counter]);
}

/*
 * What keeps a mapping from being wrong. The test build can take out one at a
 * time (/sys/module/symbiotic/parameters/without, a mask), so that a test can
 * show that it notices: guest/tests/swapguard.c.
 */
enum swap_guard {
	SWAP_GUARD_CACHE,	/* not what is in the swap cache */
	SWAP_GUARD_SHARED,	/* not what another process has too */
	SWAP_GUARD_ZERO,	/* 6.12: not what was never written */
	SWAP_GUARD_CHANGE,	/* not where the page table is being changed */
	SWAP_GUARD_FLUSH,	/* the TLB is flushed before a slot is read */
	SWAP_GUARD_READ,	/* put back what is about to be read */
	SWAP_GUARD_USER,	/* only for faults of user mode */
	SWAP_GUARD_PIN,		/* put back what is to be pinned */
	SWAP_GUARD_RANGE,	/* put back before the page table is changed */
	SWAP_GUARD_SWAPOFF,	/* put back before swapoff looks */
	SWAP_GUARD_USABLE,	/* nothing of a device that is going */
	SWAP_GUARD_CLEAN,	/* not what nobody has written since clear_refs */
	SWAP_GUARD_DEVICE,	/* only pages of this disk */
	SWAP_GUARD_LOCKED,	/* nothing of locked areas */
	SWAP_GUARD_MLOCK,	/* put back what becomes locked */
	SWAP_GUARD_LOOK,	/* not what came into the swap cache meanwhile */
	SWAP_GUARD_ZSWAP,	/* 6.1: not what zswap has */
};

#ifdef SYMBIOTIC_TEST
extern unsigned int swap_without;
extern unsigned int swap_pause;

static inline bool swap_guards(enum swap_guard guard)
{
	return !(READ_ONCE(swap_without) & BIT(guard));
}

/* Between the first look at a page and naming its owner; at most 100 ms */
static inline void swap_pause_for_tests(void)
{
	mdelay(min(READ_ONCE(swap_pause), 100U));
}
#else
static inline bool swap_guards(enum swap_guard guard)
{
	return true;
}

static inline void swap_pause_for_tests(void)
{
}
#endif

static inline bool swap_is_window(pte_t pte)
{
	return pte_present(pte) && pte_devmap(pte) &&
	       pte_pfn(pte) - swap_window_pfn < swap_window_pages;
}

/* swapbypass_restore.c; owner->lock is held */
void swap_restore_range(struct swap_mm *owner, unsigned long start,
			unsigned long end);
/* ... not held */
void swap_restore_slot(unsigned long slot);
void swap_restore_pinned(unsigned long slot);
void swap_free_region(struct swap_region *region);

/* swapbypass_mm.c */
struct swap_mm *swap_find_mm(struct mm_struct *mm);
void swap_request_mm(struct mm_struct *mm);
bool swap_prepare_region(struct swap_mm *owner, unsigned long address);
bool swap_is_changing(const struct swap_mm *owner, unsigned long start,
		      unsigned long end);
void swap_restore_locked(unsigned long start, unsigned long end);
void swap_restore_all(void);
void swap_forget_all(void);

/* swapbypass_map.c */
struct vm_fault;
bool swap_bypass_fault(struct vm_fault *vmf);
u64 swap_symcall_map(struct symbiotic_registers *regs);

/* swapbypass_quiet.c */
void swap_quiet_lru_gen(void);

/* swapbypass_hooks.c */
int swap_hook(void);
void swap_unhook(void);

#endif /* SYMBIOTIC_SWAPBYPASS_H */
