/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Swap bypass: shared declarations. docs/SWAPBYPASS.md describes the design.
 *
 *   swapbypass.c         finds the window; switches bypass on and off
 *   swapbypass_mm.c      registered processes and their mmu_notifiers
 *   swapbypass_books.c   allocates the books of mapped entries
 *   swapbypass_restore.c replaces window entries by the original swap entries
 *   swapbypass_map.c     faults: the doorbell, and the symcall that maps
 *   swapbypass_tiers.c   what the VMM asks when it sizes the store
 *   swapbypass_hooks.c   ftrace hooks
 *   swapbypass_quiet.c   suppresses a warning of the multi-generational LRU
 *
 * Lock order: swap_mm.lock, then the page-table locks (ptl), of which only the
 * first may be waited for. list_lock (swapbypass_mm.c) is never held together
 * with another lock. Holders of a ptl and handlers of symcalls only trylock
 * swap_mm.lock. Interrupt handlers take none of them. A restore of more than one
 * batch drops swap_mm.lock between two batches (swapbypass_restore.c).
 */
#ifndef SYMBIOTIC_SWAPBYPASS_H
#define SYMBIOTIC_SWAPBYPASS_H

#include <linux/delay.h>
#include <linux/jump_label.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "symbiotic.h"
#include "symbiotic_swap.h"

#define SWAP_ENTRIES	SYMBIOTIC_SWAP_ENTRIES	/* of a page-table page */

/*
 * The books of one page-table page with entries that map the window: those of
 * the original swap entries' bits that the mapped entry does not tell. 152 bytes,
 * charged to the process's control group. swap_mm.lock protects it.
 */
struct swap_region {
	unsigned long address;	/* of the first entry */
	/* Valid while count > 0: the kernel calls the notifier before it frees the page table */
	pmd_t *pmd;
	unsigned int count;	/* bits set in mapped */
	unsigned int type;	/* of the swap device, while count > 0 */
	DECLARE_BITMAP(mapped, SWAP_ENTRIES);
	DECLARE_BITMAP(exclusive, SWAP_ENTRIES);	/* pte_swp_exclusive() */
};

/* A process whose swapped pages bypass maps once it is ready */
struct swap_mm {
	struct mmu_notifier notifier;
	struct mm_struct *mm;		/* we hold a reference (mmgrab) */
	struct hlist_node hash;		/* list_lock; read under RCU */
	struct list_head list;		/* list_lock */
	unsigned int pass;		/* list_lock: of swap_restore_all() */
	bool is_registered;		/* list_lock; set by work */
	unsigned long delay;		/* work: jiffies before the next attempt */
	struct delayed_work work;	/* registers, later unregisters and frees */
	refcount_t users;
	struct rcu_head rcu;

	spinlock_t lock;		/* protects all below, and the slots it owns */
	bool ready;			/* registered and not yet released */
	unsigned int changes;		/* range_start calls without range_end */
	unsigned long change_start;	/* covers all those ranges */
	unsigned long change_end;
	unsigned long mapped;		/* pages, of all regions */
	unsigned long region_count;
	struct xarray regions;		/* by address >> PMD_SHIFT */
};

/* The process that maps a page of the window; one for each page */
struct swap_slot {
	struct swap_mm *owner;		/* written under owner->lock */
	unsigned long address;
};

struct swap_symbols {
	void (*flush_tlb_mm_range)(struct mm_struct *mm, unsigned long start,
				   unsigned long end, unsigned int stride_shift,
				   bool freed_tables);
	struct swap_info_struct *(*swp_swap_info)(swp_entry_t entry);
	/* 6.12: > 0 once zswap was enabled; NULL: not compiled in */
	struct static_key *zswap_ever_enabled;
};

/* swapbypass.c; constant while the hooks are registered */
extern struct swap_symbols swap_symbols;
extern struct swap_slot *swap_slots;
extern unsigned long swap_window_pfn;
extern unsigned long swap_window_pages;
extern const unsigned long *swap_resident;	/* a bit for each slot; NULL: all are resident */
extern unsigned long *swap_accessed;		/* a bit for each slot; NULL: not wanted */
bool swap_is_on(void);

static_assert(offsetof(struct symbiotic_global_page, services) ==
	      SYMBIOTIC_SWAP_FIELDS_OFFSET);

/* The service's part of the global page */
static inline struct symbiotic_swap_fields *swap_fields(void)
{
	return (struct symbiotic_swap_fields *)symbiotic_global->services;
}

static inline void swap_count(unsigned int counter, u64 number)
{
	atomic64_add(number, (atomic64_t *)&swap_fields()->counters[counter]);
}

/*
 * The checks that keep a mapping correct. The test build can disable one at a
 * time (/sys/module/symbiotic/parameters/without, a mask), so that a test can
 * show that it detects the missing check: guest/tests/swapguard.c.
 */
enum swap_guard {
	SWAP_GUARD_CACHE,	/* do not map a page in the swap cache */
	SWAP_GUARD_SHARED,	/* do not map a slot with several users */
	SWAP_GUARD_ZERO,	/* 6.12: do not map a page in the zeromap */
	SWAP_GUARD_CHANGE,	/* do not map a range between range_start and range_end */
	SWAP_GUARD_FLUSH,	/* flush the TLB before a slot is read */
	SWAP_GUARD_READ,	/* restore before the kernel reads the slot */
	SWAP_GUARD_USER,	/* only for faults in user mode */
	SWAP_GUARD_PIN,		/* restore before get_user_pages() pins the page */
	SWAP_GUARD_RANGE,	/* restore before the page table changes */
	SWAP_GUARD_SWAPOFF,	/* restore before swapoff scans for swap entries */
	SWAP_GUARD_USABLE,	/* do not map while swapoff runs */
	SWAP_GUARD_CLEAN,	/* do not map a page whose soft-dirty bit is clear */
	SWAP_GUARD_DEVICE,	/* only pages of the swap disk */
	SWAP_GUARD_LOCKED,	/* do not map in locked areas */
	SWAP_GUARD_MLOCK,	/* restore when an area becomes locked */
	SWAP_GUARD_LOOK,	/* check swap_map again after publishing the owner */
	SWAP_GUARD_ZSWAP,	/* 6.1: do not map a page in zswap */
};

#ifdef SYMBIOTIC_TEST
extern unsigned int swap_without;
extern unsigned int swap_pause;

static inline bool swap_guards(enum swap_guard guard)
{
	return !(READ_ONCE(swap_without) & BIT(guard));
}

/*
 * Between the first check of a page and publishing its owner: waits until
 * another vCPU has changed the slot's use count, at most swap_pause ms and never
 * more than 100, and then for as long as that vCPU needs to look at the owner.
 * Once for each write to the parameter, which then reads as 0, so that a program
 * on the other vCPU knows when to begin. A fixed time would be over before a
 * vCPU that the host delays.
 */
static inline void swap_pause_for_tests(const unsigned char *users)
{
	const unsigned char before = READ_ONCE(*users);
	unsigned int left = min(READ_ONCE(swap_pause), 100U);

	if (!left)
		return;
	WRITE_ONCE(swap_pause, 0);
	while (left-- && READ_ONCE(*users) == before)
		mdelay(1);
	mdelay(10);
}
#else
static inline bool swap_guards(enum swap_guard guard)
{
	return true;
}

static inline void swap_pause_for_tests(const unsigned char *users)
{
}
#endif

static inline bool swap_is_window(pte_t pte)
{
	return pte_present(pte) && pte_devmap(pte) &&
	       pte_pfn(pte) - swap_window_pfn < swap_window_pages;
}

/*
 * The swap entry that the window's page @slot replaces. A mapped entry's soft-dirty
 * bit was set, and no other bit: has_only_copy() (swapbypass_map.c).
 */
static inline pte_t swap_original_entry(const struct swap_region *region,
					unsigned int i, unsigned long slot)
{
	pte_t pte = swp_entry_to_pte(swp_entry(region->type, slot));

	pte = pte_swp_mksoft_dirty(pte);
	return test_bit(i, region->exclusive) ? pte_swp_mkexclusive(pte) : pte;
}

/* The page is in the VMM's memory. It may leave at any time: map_entries() says how */
static inline bool swap_is_resident(unsigned long slot)
{
	return !swap_resident || test_bit(slot, swap_resident);
}

/* swapbypass_restore.c */
int swap_start_restore(void);
void swap_stop_restore(void);
void swap_restore_range(struct swap_mm *owner, unsigned long start,
			unsigned long end, bool may_sleep);
void swap_restore_slot(unsigned long slot);
void swap_restore_pinned(unsigned long slot);
unsigned int swap_evict_slot(unsigned long slot);
/* The caller holds owner->lock */
void swap_free_empty_region(struct swap_mm *owner, struct swap_region *region);

/* swapbypass_mm.c */
extern struct kmem_cache *swap_region_cache;
int swap_start_mms(void);
void swap_stop_mms(void);
struct swap_mm *swap_find_mm(struct mm_struct *mm);
void swap_register_mm(struct mm_struct *mm);
bool swap_is_changing(const struct swap_mm *owner, unsigned long start,
		      unsigned long end);
void swap_restore_locked(unsigned long start, unsigned long end);
void swap_restore_all(void);
void swap_unregister_all(void);

/* swapbypass_books.c */
bool swap_prepare_region(struct swap_mm *owner, unsigned long address);
void swap_drop_region(struct swap_mm *owner, unsigned long address);

/* swapbypass_map.c */
struct vm_fault;
bool swap_bypass_fault(struct vm_fault *vmf);
u64 swap_symcall_map(struct symbiotic_registers *regs);

/* swapbypass_tiers.c */
int swap_start_tiers(struct workqueue_struct *queue);
void swap_stop_tiers(void);

/* swapbypass_quiet.c */
void swap_quiet_lru_gen(void);

/* swapbypass_hooks.c */
int swap_hook(void);
void swap_unhook(void);

#endif /* SYMBIOTIC_SWAPBYPASS_H */
