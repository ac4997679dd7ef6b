// SPDX-License-Identifier: GPL-2.0
/*
 * The processes of swap bypass: who they are, what happens to their page
 * tables, and when they go.
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
	/* Also where nothing is mapped any more: the books of what goes are freed */
	if (!xa_empty(&owner->regions) && range->start < range->end &&
	    swap_guards(SWAP_GUARD_RANGE))
		swap_restore_range(owner, range->start, range->end);
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
	return swap_guards(SWAP_GUARD_CHANGE) && owner->changes && start < owner->change_end &&
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
	swap_restore_range(owner, 0, ULONG_MAX);
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
	swap_count(SYMBIOTIC_SWAP_PROCESSES, -1);
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
	swap_count(SYMBIOTIC_SWAP_PROCESSES, 1);
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
	swap_free_region(region);
	/* Another thread of the process was faster */
	return err == -EBUSY;
free:
	kfree(region);
	return false;
}

/*
 * Puts back what this process has mapped in a range that it has locked, for
 * the kernel to swap it in. Process context, no spinlock held, interrupts on.
 */
void swap_restore_locked(unsigned long start, unsigned long end)
{
	struct swap_mm *owner;

	rcu_read_lock();
	owner = swap_find_mm(current->mm);
	if (owner) {
		spin_lock(&owner->lock);
		if (owner->mapped)
			swap_restore_range(owner, start, end);
		spin_unlock(&owner->lock);
	}
	rcu_read_unlock();
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
			swap_restore_range(owner, 0, ULONG_MAX);
		spin_unlock(&owner->lock);
	}
	rcu_read_unlock();
}

/*
 * Takes all apart. On the queue, with bypass off and no fault in hand, so none
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
