// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass: the registered processes.
 *
 * Each has an mmu_notifier. The kernel calls it before munmap, mprotect, fork,
 * mremap, madvise, the OOM reaper, huge-page collapse and exit change the page
 * table, and the module restores the swap entries there first.
 *
 * Each process has its own work item, which registers the notifier, and at the
 * end unregisters it and frees the books. It does not wait for a lock of the
 * process, whose threads may hold mmap_lock for ever (a page fault in a file
 * whose server does not answer), and it never runs exit_mmap().
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "swapbypass.h"

/* Jiffies between two attempts to register a process whose mmap_lock is held */
#define DELAY_FIRST	max_t(unsigned long, HZ / 100, 1)
#define DELAY_MAX	HZ

/* Processes whose work runs at the same time */
#define ACTIVE_MAX	64

struct kmem_cache *swap_region_cache;
static struct workqueue_struct *queue;
static DEFINE_HASHTABLE(mm_table, 8);
static LIST_HEAD(mm_list);
/* mm_table, mm_list, registered, listed and the fields of swap_mm that name it */
static DEFINE_SPINLOCK(list_lock);
static unsigned int registered;		/* processes with a notifier */
static unsigned int listed;		/* processes that are not yet forgotten */
static DECLARE_WAIT_QUEUE_HEAD(forgotten);

/* ---- The notifier ---------------------------------------------------------- */

/*
 * The kernel is about to change the range. Do not map there until range_end.
 * The caller may sleep, holding mmap_lock or locks of the reverse mapping,
 * unless the range is not blockable (the OOM reaper).
 */
static int on_range_start(struct mmu_notifier *notifier,
			  const struct mmu_notifier_range *range)
{
	struct swap_mm *owner = container_of(notifier, struct swap_mm, notifier);
	bool has_regions;

	spin_lock(&owner->lock);
	if (!owner->changes++) {
		owner->change_start = range->start;
		owner->change_end = range->end;
	} else {
		owner->change_start = min(owner->change_start, range->start);
		owner->change_end = max(owner->change_end, range->end);
	}
	has_regions = !xa_empty(&owner->regions);
	spin_unlock(&owner->lock);
	if (has_regions && range->start < range->end &&
	    swap_guards(SWAP_GUARD_RANGE))
		swap_restore_range(owner, range->start, range->end,
				   mmu_notifier_range_blockable(range));
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

/* The caller holds owner->lock */
bool swap_is_changing(const struct swap_mm *owner, unsigned long start,
		      unsigned long end)
{
	return swap_guards(SWAP_GUARD_CHANGE) && owner->changes && start < owner->change_end &&
	       end > owner->change_start;
}

/*
 * The address space ends, or the module unregisters from it; both may happen at
 * the same time. The caller may sleep and holds no lock of the process. When
 * this returns, no entry maps the window.
 */
static void on_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct swap_mm *owner = container_of(notifier, struct swap_mm, notifier);

	spin_lock(&owner->lock);
	owner->ready = false;
	spin_unlock(&owner->lock);
	swap_restore_range(owner, 0, ULONG_MAX, true);
	mod_delayed_work(queue, &owner->work, 0);
}

static const struct mmu_notifier_ops notifier_ops = {
	.release = on_release,
	.invalidate_range_start = on_range_start,
	.invalidate_range_end = on_range_end,
};

/* ---- Registration ----------------------------------------------------------- */

/* In an RCU read-side critical section */
struct swap_mm *swap_find_mm(struct mm_struct *mm)
{
	struct swap_mm *owner;

	hash_for_each_possible_rcu(mm_table, owner, hash, (unsigned long)mm)
		if (owner->mm == mm)
			return owner;
	return NULL;
}

static void put_mm(struct swap_mm *owner)
{
	if (refcount_dec_and_test(&owner->users))
		kfree_rcu(owner, rcu);
}

/* In the process's own work, or before that is queued */
static void forget_mm(struct swap_mm *owner)
{
	const bool is_registered = owner->is_registered;

	spin_lock(&list_lock);
	list_del(&owner->list);
	hash_del_rcu(&owner->hash);
	swap_count(SYMBIOTIC_SWAP_PROCESSES, -1);
	spin_unlock(&list_lock);
	/* Calls on_release() unless exit has; waits for running callbacks */
	if (is_registered)
		mmu_notifier_unregister(&owner->notifier, owner->mm);
	/* on_release() may have queued the work. Nobody queues it any more. */
	cancel_delayed_work(&owner->work);
	WARN_ON_ONCE(owner->mapped || owner->region_count);
	/* Nodes without a region: an insertion that gets no memory leaves those that it got before */
	xa_destroy(&owner->regions);
	mmdrop(owner->mm);
	put_mm(owner);

	spin_lock(&list_lock);
	registered -= is_registered;
	listed--;
	spin_unlock(&list_lock);
	wake_up_all(&forgotten);
}

/* mmap_write_trylock(), which 6.12 does not have */
static bool trylock_mmap(struct mm_struct *mm)
{
	if (!down_write_trylock(&mm->mmap_lock))
		return false;
#ifdef SYMBIOTIC_MM_SEQCOUNT
	mm_lock_seqcount_begin(mm);
#endif
	return true;
}

/*
 * Returns 0, -EAGAIN if mmap_lock is held, or another error. The process may
 * have exited: then mm_users is 0. mmput_async(), because this may hold the last
 * reference, and exit_mmap() may take for ever.
 */
static int try_to_register(struct swap_mm *owner)
{
	struct mm_struct *mm = owner->mm;
	int err = -EAGAIN;

	if (!mmget_not_zero(mm))
		return -ESRCH;
	if (trylock_mmap(mm)) {
		err = __mmu_notifier_register(&owner->notifier, mm);
		mmap_write_unlock(mm);
	}
	if (!err) {
		spin_lock(&list_lock);
		owner->is_registered = true;
		registered++;
		spin_unlock(&list_lock);
		spin_lock(&owner->lock);
		owner->ready = true;
		spin_unlock(&owner->lock);
	}
	mmput_async(mm);
	return err;
}

/*
 * Registers the process, or forgets it when it has ended or bypass is off. A
 * work item never runs twice at the same time.
 */
static void serve_mm(struct work_struct *work)
{
	struct swap_mm *owner = container_of(to_delayed_work(work), struct swap_mm, work);
	bool is_ready;

	if (!owner->is_registered && swap_is_on() &&
	    try_to_register(owner) == -EAGAIN) {
		owner->delay = min_t(unsigned long, 2 * owner->delay, DELAY_MAX);
		queue_delayed_work(queue, &owner->work, owner->delay);
		return;
	}
	spin_lock(&owner->lock);
	is_ready = owner->ready;
	spin_unlock(&owner->lock);
	/* Whatever changes this from now on queues the work again */
	if (!is_ready || !swap_is_on())
		forget_mm(owner);
}

/*
 * Starts to register a process. From a fault of that process, preemption
 * disabled. Registration needs locks that a fault cannot take: this fault swaps
 * in as usual.
 */
void swap_register_mm(struct mm_struct *mm)
{
	struct swap_mm *owner;

	owner = kzalloc(sizeof(*owner), GFP_NOWAIT | __GFP_NOWARN | __GFP_ACCOUNT);
	if (!owner) {
		swap_count(SYMBIOTIC_SWAP_SHORT, 1);
		return;
	}
	owner->notifier.ops = &notifier_ops;
	owner->mm = mm;
	owner->delay = DELAY_FIRST;
	refcount_set(&owner->users, 1);
	spin_lock_init(&owner->lock);
	xa_init_flags(&owner->regions, XA_FLAGS_ACCOUNT);
	INIT_DELAYED_WORK(&owner->work, serve_mm);

	spin_lock(&list_lock);
	if (swap_find_mm(mm)) {
		spin_unlock(&list_lock);
		kfree(owner);
		return;
	}
	mmgrab(mm);
	hash_add_rcu(mm_table, &owner->hash, (unsigned long)mm);
	list_add(&owner->list, &mm_list);
	listed++;
	swap_count(SYMBIOTIC_SWAP_PROCESSES, 1);
	queue_delayed_work(queue, &owner->work, 0);
	spin_unlock(&list_lock);
}

/* ---- All processes ----------------------------------------------------------- */

/*
 * Restores the entries in a range that this process has locked, so that the
 * kernel swaps the pages in. Process context, no spinlock held, preemption
 * disabled: RLIMIT_MEMLOCK bounds the range, except for root.
 */
void swap_restore_locked(unsigned long start, unsigned long end)
{
	struct swap_mm *owner;

	rcu_read_lock();
	owner = swap_find_mm(current->mm);
	if (owner)
		swap_restore_range(owner, start, end, false);
	rcu_read_unlock();
}

static struct swap_mm *next_of_pass(unsigned int pass)
{
	struct swap_mm *owner, *found = NULL;

	spin_lock(&list_lock);
	list_for_each_entry(owner, &mm_list, list) {
		if (owner->pass != pass) {
			owner->pass = pass;
			refcount_inc(&owner->users);
			found = owner;
			break;
		}
	}
	spin_unlock(&list_lock);
	return found;
}

/* The module may map others meanwhile, but none of a disk that swapoff has stopped */
static void restore_all(struct work_struct *work)
{
	static unsigned int pass;
	struct swap_mm *owner;

	pass++;
	while ((owner = next_of_pass(pass))) {
		swap_restore_range(owner, 0, ULONG_MAX, true);
		put_mm(owner);
		cond_resched();
	}
}

static DECLARE_WORK(restore_work, restore_all);

/*
 * Restores all entries, but does not wait for that. Any context: swapoff calls
 * it with preemption disabled. swapoff scans for swap entries until the last
 * slot is free, so it finds them when they are restored.
 */
void swap_restore_all(void)
{
	queue_work(queue, &restore_work);
}

/*
 * Unregisters all processes, and waits until no entry maps the window. With
 * bypass off and no fault running, so that no process is added. The work of a
 * process that is not yet registered finds bypass off, and forgets it.
 */
void swap_unregister_all(void)
{
	struct swap_mm *owner;

	spin_lock(&list_lock);
	list_for_each_entry(owner, &mm_list, list)
		mod_delayed_work(queue, &owner->work, 0);
	spin_unlock(&list_lock);
	wait_event(forgotten, !READ_ONCE(registered));
}

int swap_start_mms(void)
{
	swap_region_cache = kmem_cache_create("symbiotic_swap_region",
					      sizeof(struct swap_region), 0,
					      SLAB_ACCOUNT, NULL);
	queue = alloc_workqueue("symbiotic_swap_mm", WQ_UNBOUND, ACTIVE_MAX);
	if (swap_region_cache && queue && !swap_start_restore())
		return 0;
	swap_stop_mms();
	return -ENOMEM;
}

/* With bypass off and its hooks removed */
void swap_stop_mms(void)
{
	wait_event(forgotten, !READ_ONCE(listed));
	if (queue)
		destroy_workqueue(queue);
	kmem_cache_destroy(swap_region_cache);
	swap_stop_restore();
}
