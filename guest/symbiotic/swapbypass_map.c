// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass: a fault on a swapped page rings a doorbell, and the VMM's
 * symcall maps pages around the fault to the window.
 */
#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/userfaultfd_k.h>
#include <linux/version.h>

#include "swapbypass.h"

/* The fault for which this vCPU rings the doorbell */
struct swap_fault {
	struct swap_mm *owner;		/* NULL: none */
	struct vm_area_struct *area;	/* the fault holds its lock: flags are stable */
	struct swap_info_struct *device;
	pmd_t *pmd;
	unsigned long address;
	unsigned int type;		/* of the swap device */
	unsigned int first, last;	/* entries within the area */
	bool done;			/* the faulting page is mapped */
};

static DEFINE_PER_CPU(struct swap_fault, current_fault);

/* Private anonymous memory that this process may read and write */
static bool qualifies(const struct vm_area_struct *area)
{
	const unsigned long required = VM_READ | VM_WRITE;
	unsigned long refused = VM_SHARED | VM_MAYSHARE | VM_PFNMAP |
				VM_MIXEDMAP | VM_IO | VM_HUGETLB;

	if (swap_guards(SWAP_GUARD_LOCKED))
		refused |= VM_LOCKED;
#ifdef VM_SHADOW_STACK
	if (area->vm_flags & VM_SHADOW_STACK)
		return false;
#endif
	return vma_is_anonymous((struct vm_area_struct *)area) &&
	       (area->vm_flags & required) == required &&
	       !(area->vm_flags & refused) &&
	       !userfaultfd_armed((struct vm_area_struct *)area);
}

/* Compares the address of the disk's registers with the one that the VMM named */
static bool is_swap_disk(const struct block_device *bdev)
{
	const struct device *parent;
	const struct resource *registers;

	if (!swap_guards(SWAP_GUARD_DEVICE))
		return true;
	if (!bdev || bdev_is_partition((struct block_device *)bdev))
		return false;
	/* gendisk, virtio device, platform device */
	parent = disk_to_dev(bdev->bd_disk)->parent;
	parent = parent ? parent->parent : NULL;
	if (!parent || parent->bus != &platform_bus_type)
		return false;
	registers = platform_get_resource(to_platform_device(parent),
					  IORESOURCE_MEM, 0);
	return registers && registers->start ==
	       READ_ONCE(swap_fields()->vmm[SYMBIOTIC_SWAP_VMM_DISK]);
}

/*
 * The device is the whole swap disk, and swapoff has not begun. In an RCU
 * read-side critical section: swapoff clears SWP_WRITEOK and waits for readers
 * before it frees anything.
 */
static bool is_usable(const struct swap_info_struct *device)
{
	unsigned long required = SWP_USED | SWP_BLKDEV;

	if (swap_guards(SWAP_GUARD_USABLE))
		required |= SWP_WRITEOK;
	return device && (READ_ONCE(device->flags) & required) == required &&
	       is_swap_disk(READ_ONCE(device->bdev));
}

/* swap_map is 1: this entry is the only user, and the page is not in the swap cache */
static bool has_one_user(const struct swap_info_struct *device,
			 unsigned long slot)
{
	unsigned char users = READ_ONCE(device->swap_map[slot]);

	if (!swap_guards(SWAP_GUARD_CACHE))
		users &= ~SWAP_HAS_CACHE;
	if (!swap_guards(SWAP_GUARD_SHARED) && users < SWAP_MAP_MAX)
		users = min_t(unsigned char, users, 1);
	return users == 1;
}

/* A swap entry of this device, number @type, whose only copy is in its slot */
static bool has_only_copy(const struct swap_info_struct *device,
			  unsigned int type, pte_t pte)
{
	unsigned long slot;
	swp_entry_t entry;

	if (pte_none(pte) || pte_present(pte))
		return false;
	entry = pte_to_swp_entry(pte);
	if (non_swap_entry(entry))
		return false;
	slot = swp_offset(entry);
	if (swp_type(entry) != type || !slot ||
	    slot >= swap_window_pages || slot >= device->max) {
		swap_count(SYMBIOTIC_SWAP_FOREIGN, 1);
		return false;
	}
	/* A writable mapping would hide writes from soft-dirty and userfaultfd */
	if (((IS_ENABLED(CONFIG_MEM_SOFT_DIRTY) && !pte_swp_soft_dirty(pte)) ||
	     pte_swp_uffd_wp(pte)) && swap_guards(SWAP_GUARD_CLEAN)) {
		swap_count(SYMBIOTIC_SWAP_CLEAN, 1);
		return false;
	}
	if (!has_one_user(device, slot)) {
		swap_count(SYMBIOTIC_SWAP_SHARED, 1);
		return false;
	}
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	/* A zero page, which the kernel has not written to the disk */
	if (test_bit(slot, device->zeromap) && swap_guards(SWAP_GUARD_ZERO)) {
		swap_count(SYMBIOTIC_SWAP_ZERO, 1);
		return false;
	}
	/* The kernel counts before zswap takes its first page, so before has_one_user() */
	if (swap_symbols.zswap_ever_enabled &&
	    static_key_count(swap_symbols.zswap_ever_enabled) > 0) {
		swap_count(SYMBIOTIC_SWAP_ZERO, 1);
		return false;
	}
#endif
#ifdef CONFIG_FRONTSWAP
	/* The page is in zswap, not on the disk */
	if (device->frontswap_map && test_bit(slot, device->frontswap_map) &&
	    swap_guards(SWAP_GUARD_ZSWAP)) {
		swap_count(SYMBIOTIC_SWAP_ZERO, 1);
		return false;
	}
#endif
	return true;
}

/*
 * Tries to resolve a fault by a mapping to the window. Returns true when the
 * page is mapped. In the faulting task, which holds mmap_lock or the area's
 * lock and no spinlock; preemption disabled, interrupts enabled.
 */
bool swap_bypass_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *area = vmf->vma;
	const unsigned long address = vmf->address & PAGE_MASK;
	const unsigned long region = address & PMD_MASK;
	struct swap_info_struct *device;
	struct swap_fault *fault;
	struct swap_mm *owner;
	swp_entry_t entry;
	bool done;

	if (!swap_is_on() || !is_swap_pte(vmf->orig_pte) ||
	    READ_ONCE(symbiotic_global->vmm_flags) & SYMBIOTIC_VMM_SYMCALLS_OFF)
		return false;
	entry = pte_to_swp_entry(vmf->orig_pte);
	if (non_swap_entry(entry))
		return false;
	device = swap_symbols.swp_swap_info(entry);
	if (!is_usable(device))
		return false;
	swap_count(SYMBIOTIC_SWAP_FAULTS, 1);
	/*
	 * Only faults in user mode. get_user_pages() faults without this flag,
	 * needs a page of RAM, and would retry for ever without one.
	 */
	if ((!(vmf->flags & FAULT_FLAG_USER) && swap_guards(SWAP_GUARD_USER)) ||
	    area->vm_mm != current->mm) {
		swap_count(SYMBIOTIC_SWAP_KERNEL, 1);
		return false;
	}
	if (!qualifies(area)) {
		swap_count(SYMBIOTIC_SWAP_PROTECTED, 1);
		return false;
	}
	rcu_read_lock();
	owner = swap_find_mm(area->vm_mm);
	rcu_read_unlock();
	if (!owner) {
		swap_count(SYMBIOTIC_SWAP_NEW, 1);
		swap_register_mm(area->vm_mm);
		return false;
	}
	/* owner is valid: the process runs, and unregistering waits for this callback */
	if (!READ_ONCE(owner->ready)) {
		swap_count(SYMBIOTIC_SWAP_NEW, 1);
		return false;
	}
	/*
	 * Without this check, each fault on a page that is still in the swap
	 * cache would ring a doorbell in vain. SWAP_MAP checks again.
	 */
	if (!has_only_copy(device, swp_type(entry), vmf->orig_pte))
		return false;
	if (!swap_prepare_region(owner, address))
		return false;

	fault = this_cpu_ptr(&current_fault);
	fault->area = area;
	fault->device = device;
	fault->pmd = vmf->pmd;
	fault->address = address;
	fault->type = swp_type(entry);
	fault->first = (max(area->vm_start, region) - region) >> PAGE_SHIFT;
	fault->last = (min(area->vm_end, region + PMD_SIZE) - 1 - region) >> PAGE_SHIFT;
	fault->done = false;
	fault->owner = owner;
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_FAULT, address,
			   swp_offset(entry), fault->first | (u64)fault->last << 32,
			   (unsigned long)owner, 0);
	fault->owner = NULL;
	done = fault->done;
	if (done)
		swap_count(SYMBIOTIC_SWAP_HITS, 1);
	else
		swap_drop_region(owner, address);
	return done;
}

/* ---- The symcall ------------------------------------------------------------ */

/* An entry that SWAP_MAP may replace */
static bool is_candidate(const struct swap_fault *fault, pte_t pte)
{
	if (!has_only_copy(fault->device, fault->type, pte))
		return false;
	/* The page is in the VMM's file, not in its memory */
	if (!swap_is_resident(swp_offset(pte_to_swp_entry(pte)))) {
		swap_count(SYMBIOTIC_SWAP_AWAY, 1);
		return false;
	}
	return true;
}

static pte_t window_pte(const struct swap_fault *fault, unsigned long slot)
{
	pte_t pte = pfn_pte(swap_window_pfn + slot, fault->area->vm_page_prot);

	pte = pte_mkspecial(pte_mkdevmap(pte_mkyoung(pte_mkdirty(pte))));
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	return pte_mkwrite_novma(pte);
#else
	return pte_mkwrite(pte);
#endif
}

/* The caller holds both locks. Returns the number of mapped pages. */
static unsigned int map_entries(struct swap_fault *fault,
				struct swap_region *region, pte_t *base,
				unsigned int first, unsigned int last)
{
	DECLARE_BITMAP(candidates, SWAP_ENTRIES);
	struct swap_mm *owner = fault->owner;
	const unsigned int faulting = (fault->address & ~PMD_MASK) >> PAGE_SHIFT;
	unsigned int i, count = 0;
	unsigned long slot;
	pte_t pte;

	bitmap_zero(candidates, SWAP_ENTRIES);
	for (i = first; i <= last; i++) {
		pte = ptep_get(base + i);
		if (!is_candidate(fault, pte))
			continue;
		slot = swp_offset(pte_to_swp_entry(pte));
		if (i == faulting)
			swap_pause_for_tests(fault->device->swap_map + slot);
		swap_slots[slot].address = region->address + i * PAGE_SIZE;
		WRITE_ONCE(swap_slots[slot].owner, owner);
		__set_bit(i, candidates);
	}
	/*
	 * Pairs with the barrier in on_read(): swap-in puts the page into the
	 * swap cache, then reads the owner; we publish the owner, then read
	 * swap_map.
	 *
	 * The same for a slot that leaves the VMM's memory: the VMM clears its
	 * bit, then SWAP_EVICT reads the owner; we publish the owner, then read
	 * the bit. SWAP_EVICT waits for owner->lock, which we hold.
	 */
	smp_mb();
	for_each_set_bit(i, candidates, SWAP_ENTRIES) {
		pte = ptep_get(base + i);
		slot = swp_offset(pte_to_swp_entry(pte));
		if (!has_one_user(fault->device, slot) &&
		    swap_guards(SWAP_GUARD_LOOK)) {
			WRITE_ONCE(swap_slots[slot].owner, NULL);
			swap_count(SYMBIOTIC_SWAP_SHARED, 1);
			continue;
		}
		if (!swap_is_resident(slot)) {
			WRITE_ONCE(swap_slots[slot].owner, NULL);
			swap_count(SYMBIOTIC_SWAP_AWAY, 1);
			continue;
		}
		__assign_bit(i, region->exclusive, pte_swp_exclusive(pte));
		/* Restoring must give back all bits of the entry */
		if (swap_guards(SWAP_GUARD_CLEAN) &&
		    WARN_ON_ONCE(!pte_same(pte, swap_original_entry(region, i, slot)))) {
			WRITE_ONCE(swap_slots[slot].owner, NULL);
			continue;
		}
		__set_bit(i, region->mapped);
		set_pte_at(owner->mm, region->address + i * PAGE_SIZE, base + i,
			   window_pte(fault, slot));
		count++;
	}
	region->count += count;
	owner->mapped += count;
	return count;
}

/* The caller holds owner->lock */
static u64 map_locked(struct swap_fault *fault, unsigned int first,
		      unsigned int last, unsigned int *count)
{
	const unsigned long start = fault->address & PMD_MASK;
	struct swap_mm *owner = fault->owner;
	struct swap_region *region;
	const pmd_t pmd = READ_ONCE(*fault->pmd);
	spinlock_t *ptl;
	pte_t *base;

	/* The lock keeps these conditions stable */
	if (!owner->ready || !swap_is_on() || !is_usable(fault->device))
		return SYMBIOTIC_E_BUSY;
	region = xa_load(&owner->regions, start >> PMD_SHIFT);
	if (!region || swap_is_changing(owner, start + first * PAGE_SIZE,
					start + (last + 1) * PAGE_SIZE)) {
		swap_count(SYMBIOTIC_SWAP_INVALIDATED, 1);
		return SYMBIOTIC_E_BUSY;
	}
	if (pmd_none(pmd) || !pmd_present(pmd) || pmd_trans_huge(pmd) ||
	    pmd_devmap(pmd) || pmd_bad(pmd))
		return SYMBIOTIC_E_BUSY;
	ptl = pte_lockptr(owner->mm, fault->pmd);
	if (!spin_trylock(ptl)) {
		swap_count(SYMBIOTIC_SWAP_BUSY, 1);
		return SYMBIOTIC_E_BUSY;
	}
	if (pmd_val(pmd) == pmd_val(READ_ONCE(*fault->pmd)) &&
	    (!region->count || region->type == fault->type)) {
		if (!region->count) {
			region->pmd = fault->pmd;
			region->type = fault->type;
		}
		base = pte_offset_kernel(fault->pmd, start);
		*count = map_entries(fault, region, base, first, last);
		fault->done = pte_present(ptep_get(base + ((fault->address - start) >>
							   PAGE_SHIFT)));
	}
	spin_unlock(ptl);
	return SYMBIOTIC_OK;
}

/*
 * RBX = first entry of the page-table page, RCX = number of entries. Returns
 * RBX = number of mapped pages, RCX = 1 when the faulting page is mapped.
 *
 * In the doorbell of swap_bypass_fault(), interrupts disabled: trylock only.
 */
u64 swap_symcall_map(struct symbiotic_registers *regs)
{
	struct swap_fault *fault = this_cpu_ptr(&current_fault);
	const u64 first = regs->rbx, number = regs->rcx;
	unsigned int count = 0;
	u64 err;

	if (!fault->owner)
		return SYMBIOTIC_E_CONTEXT;
	if (!number || number > SWAP_ENTRIES || first > SWAP_ENTRIES - number ||
	    first < fault->first || first + number - 1 > fault->last)
		return SYMBIOTIC_E_INVALID;
	if (!spin_trylock(&fault->owner->lock)) {
		swap_count(SYMBIOTIC_SWAP_BUSY, 1);
		return SYMBIOTIC_E_BUSY;
	}
	err = map_locked(fault, first, first + number - 1, &count);
	spin_unlock(&fault->owner->lock);
	swap_count(SYMBIOTIC_SWAP_MAPPED, count);
	regs->rbx = count;
	regs->rcx = fault->done;
	return err;
}
