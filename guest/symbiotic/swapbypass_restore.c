// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass, the way back: swap entries that were mapped to the window are
 * put back into the page table.
 */
#include <linux/mm.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include "swapbypass.h"

/*
 * Puts back entries first..last of a region. owner->lock and the ptl are
 * held, interrupts are on (other CPUs have to answer the flush).
 *
 * In between the entries are empty: whoever comes to them takes the ptl and
 * looks again before doing anything. The swap entry may be seen by others
 * only when no CPU can write to the window through its TLB any more.
 */
static unsigned int restore_locked(struct swap_mm *owner,
				   struct swap_region *region, pte_t *base,
				   unsigned int first, unsigned int last)
{
	unsigned long low = ULONG_MAX, high = 0, address;
	unsigned int i, count = 0;

	for (i = find_next_bit(region->mapped, last + 1, first); i <= last;
	     i = find_next_bit(region->mapped, last + 1, i + 1)) {
		address = region->address + i * PAGE_SIZE;
		/* Somebody has changed it behind our back: never overwrite that */
		if (WARN_ON_ONCE(!swap_is_window(ptep_get(base + i)))) {
			WRITE_ONCE(swap_slots[swp_offset(pte_to_swp_entry(region->entries[i]))].owner,
				   NULL);
			__clear_bit(i, region->mapped);
			region->count--;
			owner->mapped--;
			swap_count(SYMBIOTIC_SWAP_LOST, 1);
			continue;
		}
		ptep_get_and_clear(owner->mm, address, base + i);
		low = min(low, address);
		high = address + PAGE_SIZE;
	}
	if (!high)
		return 0;
	if (swap_guards(SWAP_GUARD_FLUSH))
		swap_symbols.flush_tlb_mm_range(owner->mm, low, high,
						PAGE_SHIFT, false);
	swap_count(SYMBIOTIC_SWAP_FLUSHES, 1);
	for (i = find_next_bit(region->mapped, last + 1, first); i <= last;
	     i = find_next_bit(region->mapped, last + 1, i + 1)) {
		const pte_t entry = region->entries[i];

		set_pte_at(owner->mm, region->address + i * PAGE_SIZE, base + i,
			   entry);
		WRITE_ONCE(swap_slots[swp_offset(pte_to_swp_entry(entry))].owner,
			   NULL);
		__clear_bit(i, region->mapped);
		count++;
	}
	region->count -= count;
	owner->mapped -= count;
	swap_count(SYMBIOTIC_SWAP_RESTORED, count);
	return count;
}

/* owner->lock is held; takes the ptl */
static unsigned int restore_entries(struct swap_mm *owner,
				    struct swap_region *region,
				    unsigned int first, unsigned int last)
{
	unsigned int count;
	spinlock_t *ptl;

	if (!region->count)
		return 0;
	ptl = pte_lockptr(owner->mm, region->pmd);
	spin_lock(ptl);
	count = restore_locked(owner, region,
			       pte_offset_kernel(region->pmd, region->address),
			       first, last);
	spin_unlock(ptl);
	return count;
}

void swap_free_region(struct swap_region *region)
{
	free_page((unsigned long)region->entries);
	kfree(region);
}

/* owner->lock is held */
void swap_restore_range(struct swap_mm *owner, unsigned long start,
			unsigned long end)
{
	struct swap_region *region;
	unsigned long index;

	xa_for_each_range(&owner->regions, index, region, start >> PMD_SHIFT,
			  (end - 1) >> PMD_SHIFT) {
		const unsigned long low = max(start, region->address);
		const unsigned long high = min(end, region->address + PMD_SIZE);

		restore_entries(owner, region,
				(low - region->address) >> PAGE_SHIFT,
				(high - 1 - region->address) >> PAGE_SHIFT);
		if (!region->count) {
			xa_erase(&owner->regions, index);
			swap_free_region(region);
		}
	}
}

/* owner->lock is held; slot is one of its own */
static void restore_one(struct swap_mm *owner, unsigned long slot,
			unsigned int reason)
{
	const unsigned long address = swap_slots[slot].address;
	struct swap_region *region;
	unsigned int i = (address & ~PMD_MASK) >> PAGE_SHIFT;

	region = xa_load(&owner->regions, address >> PMD_SHIFT);
	if (!region || !test_bit(i, region->mapped))
		return;
	swap_count(reason, restore_entries(owner, region, i, i));
}

/*
 * The ordinary path is about to read this slot into memory (its page is in
 * the swap cache by now, so that it won't be mapped again). Process context,
 * no spinlock held, interrupts on.
 */
void swap_restore_slot(unsigned long slot)
{
	struct swap_mm *owner;

	rcu_read_lock();
	owner = READ_ONCE(swap_slots[slot].owner);
	if (owner) {
		/* The one who maps holds this lock until all is done */
		spin_lock(&owner->lock);
		if (READ_ONCE(swap_slots[slot].owner) == owner)
			restore_one(owner, slot, SYMBIOTIC_SWAP_FENCES);
		spin_unlock(&owner->lock);
	}
	rcu_read_unlock();
}

/*
 * get_user_pages() has met the entry and wants a page that can be pinned. It
 * holds the ptl of this very entry, interrupts are on. Not restored now, for
 * a lock is taken: get_user_pages() comes again.
 */
void swap_restore_pinned(unsigned long slot)
{
	struct swap_region *region;
	unsigned long address;
	struct swap_mm *owner;
	unsigned int i;

	rcu_read_lock();
	owner = READ_ONCE(swap_slots[slot].owner);
	if (!owner || !spin_trylock(&owner->lock))
		goto out;
	if (READ_ONCE(swap_slots[slot].owner) != owner)
		goto unlock;
	address = swap_slots[slot].address;
	i = (address & ~PMD_MASK) >> PAGE_SHIFT;
	region = xa_load(&owner->regions, address >> PMD_SHIFT);
	if (!region || !test_bit(i, region->mapped))
		goto unlock;
	if (WARN_ON_ONCE(!spin_is_locked(pte_lockptr(owner->mm, region->pmd))))
		goto unlock;
	swap_count(SYMBIOTIC_SWAP_PINS,
		   restore_locked(owner, region,
				  pte_offset_kernel(region->pmd, region->address),
				  i, i));
unlock:
	spin_unlock(&owner->lock);
out:
	rcu_read_unlock();
}
