// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass: what the VMM asks when it sizes the store. SWAP_AGE reports which
 * mapped slots the guest has accessed, and clears their accessed bits. SWAP_EVICT
 * restores the entries of slots that are no longer resident, so that the VMM can
 * take their memory.
 *
 * Both symcalls only record the request, and take no lock. The workqueue of the
 * switch serves it, and rings DOORBELL_SWAP_DONE. One request at a time.
 */
#include <linux/atomic.h>
#include <linux/irq_work.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "swapbypass.h"

/* Slots between two points where other tasks may run */
#define BATCH_SLOTS	512

static struct workqueue_struct *swap_tiers_queue;

static struct {
	atomic_t is_taken;
	/* Written by the symcall that has taken it, read by the work */
	bool is_eviction;
	unsigned long first, end;
	u64 number;
} request;

/* The caller holds owner->lock: the region's page table exists while it has entries */
static bool test_and_clear_young(struct swap_mm *owner, unsigned long slot)
{
	const unsigned long address = swap_slots[slot].address;
	struct swap_region *region;
	pte_t *entry;
	pte_t pte;

	region = xa_load(&owner->regions, address >> PMD_SHIFT);
	if (!region || !test_bit((address & ~PMD_MASK) >> PAGE_SHIFT, region->mapped))
		return false;
	entry = pte_offset_kernel(region->pmd, address);
	pte = ptep_get(entry);
	if (!swap_is_window(pte) || !pte_young(pte))
		return false;
	/* No TLB flush: a page that the TLB still has may look colder than it is */
	cmpxchg(&entry->pte, pte_val(pte), pte_val(pte_mkold(pte)));
	return true;
}

/* Returns the number of accessed pages */
static unsigned int age(unsigned long slot, unsigned long end)
{
	struct swap_mm *owner = NULL, *next;
	unsigned int count = 0;

	if (!swap_accessed)
		return 0;
	rcu_read_lock();
	for (; slot < end; slot++) {
		next = READ_ONCE(swap_slots[slot].owner);
		if (next != owner) {
			if (owner)
				spin_unlock(&owner->lock);
			owner = next;
			if (owner)
				spin_lock(&owner->lock);
		}
		if (owner && READ_ONCE(swap_slots[slot].owner) == owner &&
		    test_and_clear_young(owner, slot)) {
			set_bit(slot, swap_accessed);
			count++;
		}
	}
	if (owner)
		spin_unlock(&owner->lock);
	rcu_read_unlock();
	swap_count(SYMBIOTIC_SWAP_ACCESSED, count);
	return count;
}

/* Returns the number of restored pages */
static unsigned int evict(unsigned long slot, unsigned long end)
{
	unsigned int count = 0;

	for (; slot < end; slot++) {
		if (swap_is_resident(slot) || !READ_ONCE(swap_slots[slot].owner))
			continue;
		count += swap_evict_slot(slot);
		/* One region, at most: others may run */
		cond_resched();
	}
	return count;
}

/* On the workqueue, as the switch: bypass and its tables stay as they are */
static void serve_request(struct work_struct *work)
{
	const u64 number = request.number;
	unsigned long slot, end = request.first;
	u64 pages = 0;

	if (swap_is_on())
		end = min(request.end, swap_window_pages);
	for (slot = request.first; slot < end; slot += BATCH_SLOTS) {
		const unsigned long last = min(slot + BATCH_SLOTS, end);

		pages += request.is_eviction ? evict(slot, last) : age(slot, last);
		cond_resched();
	}
	atomic_set_release(&request.is_taken, 0);
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_DONE, number, pages, 0, 0, 0);
}

static DECLARE_WORK(request_work, serve_request);

/* In the interrupt after the symcall, where waiting for the queue's lock is allowed */
static void queue_request(struct irq_work *work)
{
	queue_work(swap_tiers_queue, &request_work);
}

static DEFINE_IRQ_WORK(request_irq_work, queue_request);

/*
 * RBX = first slot, RCX = number of slots, RDX = number of the request, which
 * the doorbell repeats. E_BUSY: the last request is not done yet.
 *
 * In a doorbell's exit, interrupts disabled; takes no lock.
 */
static u64 take_request(const struct symbiotic_registers *regs, bool is_eviction)
{
	if (!regs->rcx || regs->rbx > ULONG_MAX - regs->rcx)
		return SYMBIOTIC_E_INVALID;
	if (atomic_cmpxchg_acquire(&request.is_taken, 0, 1))
		return SYMBIOTIC_E_BUSY;
	request.is_eviction = is_eviction;
	request.first = regs->rbx;
	request.end = regs->rbx + regs->rcx;
	request.number = regs->rdx;
	irq_work_queue(&request_irq_work);
	return SYMBIOTIC_OK;
}

static u64 symcall_age(struct symbiotic_registers *regs)
{
	return take_request(regs, false);
}

static u64 symcall_evict(struct symbiotic_registers *regs)
{
	return take_request(regs, true);
}

int swap_start_tiers(struct workqueue_struct *queue)
{
	int err;

	swap_tiers_queue = queue;
	err = symbiotic_add_symcall(SYMBIOTIC_SYMCALL_SWAP_AGE, symcall_age);
	if (err)
		return err;
	err = symbiotic_add_symcall(SYMBIOTIC_SYMCALL_SWAP_EVICT, symcall_evict);
	if (err)
		symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_AGE);
	return err;
}

/* With bypass off. The caller destroys the queue, which serves a last request. */
void swap_stop_tiers(void)
{
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_EVICT);
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_AGE);
	irq_work_sync(&request_irq_work);
}
