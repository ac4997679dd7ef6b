// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass: replaces entries that map the window by the original swap
 * entries, in batches. owner->lock is held for one batch at a time, which takes
 * at most BATCH_ENTRIES entries of BATCH_REGIONS page tables and flushes the
 * TLBs once.
 */
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include "swapbypass.h"

/* Fewer than the locks that lockdep and the preemption counter can count */
#define BATCH_REGIONS	16
#define BATCH_ENTRIES	(2 * SWAP_ENTRIES)

/* A part of a region whose entries this batch restores */
struct swap_part {
	struct swap_region *region;
	spinlock_t *ptl;		/* locked by the batch; NULL: none */
	unsigned int first, last;
	DECLARE_BITMAP(cleared, SWAP_ENTRIES);
};

/* One for each CPU: its user holds owner->lock, and no interrupt handler uses it */
struct swap_batch {
	unsigned int parts, entries;
	bool only_away;			/* leaves the entries of resident slots */
	unsigned long low, high;	/* covers the cleared entries */
	struct swap_part part[BATCH_REGIONS];
	unsigned long slots[BATCH_ENTRIES];	/* in the order of parts and entries */
};

/* Allocated: a module may have 8 KiB of static per-CPU data */
static struct swap_batch __percpu *batches;

int swap_start_restore(void)
{
	batches = alloc_percpu(struct swap_batch);
	return batches ? 0 : -ENOMEM;
}

void swap_stop_restore(void)
{
	free_percpu(batches);
}

static struct swap_batch *start_batch(void)
{
	struct swap_batch *batch = this_cpu_ptr(batches);

	batch->parts = 0;
	batch->entries = 0;
	batch->only_away = false;
	batch->low = ULONG_MAX;
	batch->high = 0;
	return batch;
}

/* Other code has changed entries of the region: nothing maps their slots any more */
static void forget_lost(struct swap_mm *owner, struct swap_region *region)
{
	unsigned long slot, address;

	for (slot = 0; slot < swap_window_pages; slot++) {
		if (READ_ONCE(swap_slots[slot].owner) != owner)
			continue;
		address = swap_slots[slot].address;
		if ((address & PMD_MASK) == region->address &&
		    !test_bit((address & ~PMD_MASK) >> PAGE_SHIFT, region->mapped))
			WRITE_ONCE(swap_slots[slot].owner, NULL);
	}
}

static void clear_entries(struct swap_mm *owner, struct swap_batch *batch,
			  struct swap_part *part)
{
	struct swap_region *region = part->region;
	pte_t *base = pte_offset_kernel(region->pmd, region->address);
	unsigned int i, lost = 0;
	unsigned long address, slot;
	pte_t pte;

	for (i = find_next_bit(region->mapped, part->last + 1, part->first);
	     i <= part->last;
	     i = find_next_bit(region->mapped, part->last + 1, i + 1)) {
		address = region->address + i * PAGE_SIZE;
		pte = ptep_get(base + i);
		/* Other code has changed the entry: do not overwrite it */
		if (WARN_ON_ONCE(!swap_is_window(pte))) {
			__clear_bit(i, region->mapped);
			lost++;
			continue;
		}
		slot = pte_pfn(pte) - swap_window_pfn;
		if (batch->only_away && swap_is_resident(slot))
			continue;
		ptep_get_and_clear(owner->mm, address, base + i);
		__set_bit(i, part->cleared);
		batch->slots[batch->entries++] = slot;
		batch->low = min(batch->low, address);
		batch->high = max(batch->high, address + PAGE_SIZE);
	}
	if (!lost)
		return;
	region->count -= lost;
	owner->mapped -= lost;
	swap_count(SYMBIOTIC_SWAP_LOST, lost);
	forget_lost(owner, region);
}

/* @slot: those of this part. Returns their number. */
static unsigned int write_entries(struct swap_mm *owner,
				  const struct swap_part *part,
				  const unsigned long *slot)
{
	struct swap_region *region = part->region;
	pte_t *base = pte_offset_kernel(region->pmd, region->address);
	unsigned int i, count = 0;

	for_each_set_bit(i, part->cleared, SWAP_ENTRIES) {
		set_pte_at(owner->mm, region->address + i * PAGE_SIZE, base + i,
			   swap_original_entry(region, i, slot[count]));
		WRITE_ONCE(swap_slots[slot[count]].owner, NULL);
		__clear_bit(i, region->mapped);
		count++;
	}
	region->count -= count;
	owner->mapped -= count;
	return count;
}

/*
 * Restores the entries of the batch. The caller holds owner->lock and the ptl
 * of each part; interrupts are enabled, because the flush waits for other CPUs.
 *
 * The function first clears the entries, then flushes the TLBs, then writes
 * the swap entries: other code may see a swap entry only when no CPU can write
 * to the window through its TLB. Code that meets a cleared entry takes the ptl
 * and reads the entry again.
 */
static unsigned int restore_locked(struct swap_mm *owner,
				   struct swap_batch *batch)
{
	unsigned int i, count = 0;

	for (i = 0; i < batch->parts; i++)
		if (batch->part[i].region->count)
			clear_entries(owner, batch, &batch->part[i]);
	if (!batch->entries)
		return 0;
	if (swap_guards(SWAP_GUARD_FLUSH))
		swap_symbols.flush_tlb_mm_range(owner->mm, batch->low,
						batch->high, PAGE_SHIFT, false);
	swap_count(SYMBIOTIC_SWAP_FLUSHES, 1);
	for (i = 0; i < batch->parts; i++)
		if (batch->part[i].region->count)
			count += write_entries(owner, &batch->part[i],
					       batch->slots + count);
	swap_count(SYMBIOTIC_SWAP_RESTORED, count);
	return count;
}

/*
 * Adds a part of a region, and locks its page table, which the caller unlocks.
 * Returns false when the batch is full.
 */
static bool add_part(struct swap_mm *owner, struct swap_batch *batch,
		     struct swap_region *region, unsigned int first,
		     unsigned int last)
{
	struct swap_part *part = &batch->part[batch->parts];
	unsigned int i, entries = region->count;

	if (batch->parts == BATCH_REGIONS)
		return false;
	for (i = 0; i < batch->parts; i++)
		entries += batch->part[i].region->count;
	if (batch->parts && entries > BATCH_ENTRIES)
		return false;
	part->ptl = region->count ? pte_lockptr(owner->mm, region->pmd) : NULL;
	/*
	 * Only the first may wait: mremap() waits for a second ptl in the
	 * other order. Kernels for fewer than four CPUs have one ptl for all.
	 */
	if (part->ptl && !batch->parts)
		spin_lock(part->ptl);
	else if (part->ptl && !spin_trylock(part->ptl))
		return false;
	part->region = region;
	part->first = first;
	part->last = last;
	bitmap_zero(part->cleared, SWAP_ENTRIES);
	batch->parts++;
	return true;
}

static void unlock_parts(const struct swap_batch *batch)
{
	unsigned int i;

	for (i = batch->parts; i > 0; i--)
		if (batch->part[i - 1].ptl)
			spin_unlock(batch->part[i - 1].ptl);
}

void swap_free_empty_region(struct swap_mm *owner, struct swap_region *region)
{
	if (region->count)
		return;
	xa_erase(&owner->regions, region->address >> PMD_SHIFT);
	owner->region_count--;
	kmem_cache_free(swap_region_cache, region);
}

/* Returns true when there may be more: then @next is where */
static bool restore_batch(struct swap_mm *owner, unsigned long *next,
			  unsigned long end)
{
	struct swap_batch *batch = start_batch();
	struct swap_region *region;
	unsigned long index;
	bool is_full = false;
	unsigned int i;

	xa_for_each_range(&owner->regions, index, region, *next >> PMD_SHIFT,
			  (end - 1) >> PMD_SHIFT) {
		const unsigned long low = max(*next, region->address);
		const unsigned long high = min(end, region->address + PMD_SIZE);

		if (!add_part(owner, batch, region,
			      (low - region->address) >> PAGE_SHIFT,
			      (high - 1 - region->address) >> PAGE_SHIFT)) {
			is_full = true;
			*next = low;
			break;
		}
	}
	restore_locked(owner, batch);
	unlock_parts(batch);
	for (i = 0; i < batch->parts; i++)
		swap_free_empty_region(owner, batch->part[i].region);
	return is_full;
}

/*
 * Restores a range, and frees the books of regions without entries. The caller
 * holds no spinlock, and keeps @owner from being freed; interrupts are enabled.
 * Between two batches it holds no lock of ours: others may restore entries
 * meanwhile, but map none, because the range is being changed, or the process
 * is no longer ready, or the disk is being swapped off.
 */
void swap_restore_range(struct swap_mm *owner, unsigned long start,
			unsigned long end, bool may_sleep)
{
	bool has_more;

	do {
		spin_lock(&owner->lock);
		has_more = restore_batch(owner, &start, end);
		spin_unlock(&owner->lock);
		if (has_more && may_sleep)
			cond_resched();
	} while (has_more);
}

/*
 * The caller holds owner->lock, and the owner owns the slot. @has_ptl: the
 * caller also holds the ptl of the entry.
 */
static void restore_one(struct swap_mm *owner, unsigned long slot,
			unsigned int reason, bool has_ptl)
{
	const unsigned long address = swap_slots[slot].address;
	const unsigned int i = (address & ~PMD_MASK) >> PAGE_SHIFT;
	struct swap_batch *batch = start_batch();
	struct swap_region *region;

	region = xa_load(&owner->regions, address >> PMD_SHIFT);
	if (!region || !test_bit(i, region->mapped))
		return;
	if (has_ptl) {
		if (WARN_ON_ONCE(!spin_is_locked(pte_lockptr(owner->mm, region->pmd))))
			return;
		batch->part[0] = (struct swap_part){ .region = region, .first = i, .last = i };
		batch->parts = 1;
	} else {
		add_part(owner, batch, region, i, i);
	}
	swap_count(reason, restore_locked(owner, batch));
	unlock_parts(batch);
	swap_free_empty_region(owner, region);
}

/*
 * The kernel is about to read this slot. Its page is in the swap cache, so the
 * module does not map the slot again. Process context, no spinlock held,
 * interrupts enabled.
 */
void swap_restore_slot(unsigned long slot)
{
	struct swap_mm *owner;

	rcu_read_lock();
	owner = READ_ONCE(swap_slots[slot].owner);
	if (owner) {
		/* swap_symcall_map() holds this lock until it has mapped its range */
		spin_lock(&owner->lock);
		if (READ_ONCE(swap_slots[slot].owner) == owner)
			restore_one(owner, slot, SYMBIOTIC_SWAP_FENCES, false);
		spin_unlock(&owner->lock);
	}
	rcu_read_unlock();
}

/*
 * get_user_pages() is about to pin the page of this slot. It holds the ptl of
 * the entry; interrupts are enabled. If owner->lock is held, the function
 * restores nothing, and get_user_pages() retries.
 */
void swap_restore_pinned(unsigned long slot)
{
	struct swap_mm *owner;

	rcu_read_lock();
	owner = READ_ONCE(swap_slots[slot].owner);
	if (owner && spin_trylock(&owner->lock)) {
		if (READ_ONCE(swap_slots[slot].owner) == owner)
			restore_one(owner, slot, SYMBIOTIC_SWAP_PINS, true);
		spin_unlock(&owner->lock);
	}
	rcu_read_unlock();
}

/*
 * The VMM takes slots from its memory: restores this slot's entry, and the other
 * entries of its region whose slots are not resident. Returns their number.
 * Process context, no spinlock held, interrupts enabled.
 */
unsigned int swap_evict_slot(unsigned long slot)
{
	struct swap_region *region;
	unsigned int count = 0;
	struct swap_batch *batch;
	struct swap_mm *owner;

	rcu_read_lock();
	owner = READ_ONCE(swap_slots[slot].owner);
	if (owner) {
		/* swap_symcall_map() holds this lock until it has mapped its range */
		spin_lock(&owner->lock);
		region = NULL;
		if (READ_ONCE(swap_slots[slot].owner) == owner)
			region = xa_load(&owner->regions,
					 swap_slots[slot].address >> PMD_SHIFT);
		if (region) {
			batch = start_batch();
			batch->only_away = true;
			add_part(owner, batch, region, 0, SWAP_ENTRIES - 1);
			count = restore_locked(owner, batch);
			unlock_parts(batch);
			swap_free_empty_region(owner, region);
		}
		spin_unlock(&owner->lock);
	}
	rcu_read_unlock();
	swap_count(SYMBIOTIC_SWAP_EVICTED, count);
	return count;
}
