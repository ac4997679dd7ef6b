// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass: the books of mapped entries. Their memory is charged to the
 * control group of the faulting process, a process has a limited number of
 * them, and none remains without a mapped entry.
 */
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "swapbypass.h"

static unsigned int swap_regions = 65536;
module_param_named(regions, swap_regions, uint, 0600);
MODULE_PARM_DESC(regions, "Most regions of 2 MiB of one process that bypass maps");

static bool insert_region(struct swap_mm *owner, struct swap_region *region)
{
	int err = -EINVAL;

	spin_lock(&owner->lock);
	if (owner->ready)
		err = xa_insert(&owner->regions, region->address >> PMD_SHIFT,
				region, GFP_NOWAIT | __GFP_NOWARN);
	if (!err)
		owner->region_count++;
	spin_unlock(&owner->lock);
	if (!err)
		return true;
	kmem_cache_free(swap_region_cache, region);
	if (err == -ENOMEM)
		swap_count(SYMBIOTIC_SWAP_SHORT, 1);
	/* Another thread of the process has inserted it */
	return err == -EBUSY;
}

/*
 * Allocates the region of @address unless it exists. From a fault, preemption
 * disabled: a control group at its limit, whose memory only a task that may
 * sleep can reclaim, gets none. The fault then swaps in, and that reclaims.
 * Others may free the region before this returns: check under the lock.
 */
bool swap_prepare_region(struct swap_mm *owner, unsigned long address)
{
	struct swap_region *region;

	if (xa_load(&owner->regions, address >> PMD_SHIFT))
		return true;
	if (READ_ONCE(owner->region_count) >= READ_ONCE(swap_regions)) {
		swap_count(SYMBIOTIC_SWAP_LIMITED, 1);
		return false;
	}
	region = kmem_cache_zalloc(swap_region_cache, GFP_NOWAIT | __GFP_NOWARN);
	if (!region) {
		swap_count(SYMBIOTIC_SWAP_SHORT, 1);
		return false;
	}
	region->address = address & PMD_MASK;
	return insert_region(owner, region);
}

/* Frees the region of @address if SWAP_MAP has mapped nothing there */
void swap_drop_region(struct swap_mm *owner, unsigned long address)
{
	struct swap_region *region;

	spin_lock(&owner->lock);
	region = xa_load(&owner->regions, address >> PMD_SHIFT);
	if (region)
		swap_free_empty_region(owner, region);
	spin_unlock(&owner->lock);
}
