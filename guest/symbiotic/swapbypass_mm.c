// SPDX-License-Identifier: GPL-2.0
/*
 * The books of swap bypass: which pages of which process are mapped to the
 * window, and their way back.
 *
 * A mapped entry is put back before the kernel's own code changes the page
 * table there: an mmu_notifier says so for unmap, mprotect, fork, mremap,
 * madvise, the OOM reaper, huge-page collapse and exit.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include "swapbypass.h"

static DEFINE_HASHTABLE(known, 8);
static LIST_HEAD(all);
static DEFINE_SPINLOCK(list_lock);	/* known, all, swap_mm.hash and .list */

/* ---- Putting entries back -------------------------------------------------- */

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
			continue;
		}
		ptep_get_and_clear(owner->mm, address, base + i);
		low = min(low, address);
		high = address + PAGE_SIZE;
	}
	if (!high)
		return 0;
	swap_symbols.flush_tlb_mm_range(owner->mm, low, high, PAGE_SHIFT, false);
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

static void free_region(struct swap_region *region)
{
	free_page((unsigned long)region->entries);
	kfree(region);
}

/* owner->lock is held */
static void restore_range(struct swap_mm *owner, unsigned long start,
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
			free_region(region);
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

/* ---- The notifier ---------------------------------------------------------- */

/* Before a change of the page table; nothing is mapped there until its end */
static int on_range_start(struct mmu_notifier *notifier,
			  const struct mmu_notifier_range *range)
{
	struct swap_mm *owner = container_of(notifier, struct swap_mm, notifier);

	spin_lock(&owner->lock);
	if (!owner->changes++) {
		owner->change_start = range->start;
		owner->change_end = range->end;
	} else {
		owner->change_start = min(owner->change_start, range->start);
		owner->change_end = max(owner->change_end, range->end);
	}
	if (owner->mapped && range->start < range->end)
		restore_range(owner, range->start, range->end);
	spin_unlock(&owner->lock);
	return 0;
}

static void on_range_end(struct mmu_notifier *notifier,
			 const struct mmu_notifier_range *range)
{
	struct swap_mm *owner = container_of(notifier, struct swap_mm, notifier);

	spin_lock(&owner->lock);
	owner->changes--;
	spin_unlock(&owner->lock);
}

/* Held: owner->lock */
bool swap_is_changing(const struct swap_mm *owner, unsigned long start,
		      unsigned long end)
{
	return owner->changes && start < owner->change_end &&
	       end > owner->change_start;
}

static void retire(struct work_struct *work);

/* The last task is leaving the address space, or we are */
static void on_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct swap_mm *owner = container_of(notifier, struct swap_mm, notifier);
	bool was_ready;

	spin_lock(&owner->lock);
	was_ready = owner->ready;
	owner->ready = false;
	restore_range(owner, 0, ULONG_MAX);
	spin_unlock(&owner->lock);
	if (was_ready)
		queue_work(swap_queue, &owner->work);
}

static const struct mmu_notifier_ops notifier_ops = {
	.release = on_release,
	.invalidate_range_start = on_range_start,
	.invalidate_range_end = on_range_end,
};

/* ---- Processes coming and going --------------------------------------------- */

/* RCU read side */
struct swap_mm *swap_find_mm(struct mm_struct *mm)
{
	struct swap_mm *owner;

	hash_for_each_possible_rcu(known, owner, hash, (unsigned long)mm)
		if (owner->mm == mm)
			return owner;
	return NULL;
}

/* On the queue, as all that takes one apart: nobody else does it meanwhile */
static void take_apart(struct swap_mm *owner)
{
	spin_lock(&list_lock);
	list_del_rcu(&owner->list);
	hash_del_rcu(&owner->hash);
	symbiotic_global->swap_counters[SYMBIOTIC_SWAP_PROCESSES]--;
	spin_unlock(&list_lock);
	/* Calls on_release(), unless the process's end has; waits for all calls */
	if (owner->is_registered)
		mmu_notifier_unregister(&owner->notifier, owner->mm);
	/*
	 * The process may have ended meanwhile, and its on_release() queued
	 * retire(). All calls are over now, and retire() isn't running unless
	 * it is us: the queue is an ordered one.
	 */
	cancel_work(&owner->work);
	WARN_ON_ONCE(owner->mapped);
	kfree_rcu(owner, rcu);
}

/* On the queue, after on_release() */
static void retire(struct work_struct *work)
{
	take_apart(container_of(work, struct swap_mm, work));
}

/* On the queue: the notifier's lock can't be taken in a fault */
static void introduce(struct work_struct *work)
{
	struct swap_mm *owner = container_of(work, struct swap_mm, work);
	struct mm_struct *mm = owner->mm;
	int err = -ESHUTDOWN;

	INIT_WORK(&owner->work, retire);
	if (swap_is_on())
		err = mmu_notifier_register(&owner->notifier, mm);
	if (err) {
		take_apart(owner);
	} else {
		owner->is_registered = true;
		spin_lock(&owner->lock);
		owner->ready = true;
		spin_unlock(&owner->lock);
	}
	/* May be the last user's: then on_release() follows, and retire() */
	mmput(mm);
}

/*
 * Makes a process known. From a fault of its own, preemption off. It takes a
 * while: this fault goes the ordinary way.
 */
void swap_request_mm(struct mm_struct *mm)
{
	struct swap_mm *owner;

	owner = kzalloc(sizeof(*owner), GFP_NOWAIT | __GFP_NOWARN);
	if (!owner)
		return;
	owner->notifier.ops = &notifier_ops;
	owner->mm = mm;
	spin_lock_init(&owner->lock);
	xa_init(&owner->regions);
	INIT_WORK(&owner->work, introduce);

	spin_lock(&list_lock);
	if (swap_find_mm(mm)) {
		spin_unlock(&list_lock);
		kfree(owner);
		return;
	}
	hash_add_rcu(known, &owner->hash, (unsigned long)mm);
	list_add_rcu(&owner->list, &all);
	symbiotic_global->swap_counters[SYMBIOTIC_SWAP_PROCESSES]++;
	spin_unlock(&list_lock);

	mmget(mm);
	queue_work(swap_queue, &owner->work);
}

/*
 * Sees to it that there are books for the region of @address. From a fault,
 * preemption off. They may be gone again when it returns: look under the lock.
 */
bool swap_prepare_region(struct swap_mm *owner, unsigned long address)
{
	const unsigned long index = address >> PMD_SHIFT;
	struct swap_region *region;
	int err = -EINVAL;

	if (xa_load(&owner->regions, index))
		return true;
	region = kzalloc(sizeof(*region), GFP_NOWAIT | __GFP_NOWARN);
	if (!region)
		return false;
	region->address = address & PMD_MASK;
	region->entries = (pte_t *)__get_free_page(GFP_NOWAIT | __GFP_NOWARN);
	if (!region->entries)
		goto free;
	spin_lock(&owner->lock);
	if (owner->ready)
		err = xa_insert(&owner->regions, index, region,
				GFP_NOWAIT | __GFP_NOWARN);
	spin_unlock(&owner->lock);
	if (!err)
		return true;
	free_region(region);
	/* Another thread of the process was faster */
	return err == -EBUSY;
free:
	kfree(region);
	return false;
}

/*
 * Puts everything back; what is mapped later is not affected. Process
 * context, interrupts on.
 */
void swap_restore_all(void)
{
	struct swap_mm *owner;

	/* RCU, not list_lock: restoring waits for other CPUs */
	rcu_read_lock();
	list_for_each_entry_rcu(owner, &all, list) {
		spin_lock(&owner->lock);
		if (owner->mapped)
			restore_range(owner, 0, ULONG_MAX);
		spin_unlock(&owner->lock);
	}
	rcu_read_unlock();
}

/*
 * Takes all apart. On the queue, with bypass off and faults unhooked, so none
 * comes. Those still to be introduced are behind us on the queue: they find
 * bypass off, and go by themselves.
 */
void swap_forget_all(void)
{
	struct swap_mm *owner, *found;

	do {
		found = NULL;
		spin_lock(&list_lock);
		list_for_each_entry(owner, &all, list) {
			if (owner->is_registered) {
				found = owner;
				break;
			}
		}
		spin_unlock(&list_lock);
		if (!found)
			break;
		/* From here on_release() doesn't queue it any more */
		spin_lock(&found->lock);
		found->ready = false;
		spin_unlock(&found->lock);
		take_apart(found);
	} while (true);
}
