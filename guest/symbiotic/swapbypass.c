// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass (docs/SWAPBYPASS.md): switches it on and off. The VMM requests
 * a state in the global page when the module loads, and by symcall later. An
 * ordered workqueue of its own serves the requests: no process holds it up.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/io.h>
#include <linux/irq_work.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/swap.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#include <asm/processor.h>

#include "swapbypass.h"

struct swap_symbols swap_symbols;
struct swap_slot *swap_slots;
unsigned long swap_window_pfn;
unsigned long swap_window_pages;
const unsigned long *swap_resident;
unsigned long *swap_accessed;
/* Of the switch, SWAP_AGE and SWAP_EVICT: one after the other, so they find the tables */
static struct workqueue_struct *swap_queue;

#ifdef SYMBIOTIC_TEST
unsigned int swap_without;
module_param_named(without, swap_without, uint, 0600);
MODULE_PARM_DESC(without, "Mask of the checks of swap bypass to disable");

unsigned int swap_pause;
module_param_named(pause, swap_pause, uint, 0600);
MODULE_PARM_DESC(pause, "Milliseconds to wait for another vCPU between the two checks of a page");
#endif

static bool is_on;		/* written on the workqueue */
/*
 * The VMM's latest request: SYMBIOTIC_SWAP_ON or 0, and above it the number
 * of the request, which the answer repeats.
 */
static u64 request;

#define REQUEST_NUMBER	32
static bool is_started;

static void serve_request(struct work_struct *work);
static DECLARE_WORK(request_work, serve_request);

bool swap_is_on(void)
{
	/* Pairs with switch_on(): a reader that sees it on sees the tables too */
	return smp_load_acquire(&is_on);
}

/* ---- Switching: on the workqueue --------------------------------------------- */

static bool is_supported_kernel(void)
{
	const unsigned int series = LINUX_VERSION_CODE >> 8;

	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return false;
	return series == KERNEL_VERSION(6, 1, 0) >> 8 ||
	       series == KERNEL_VERSION(6, 12, 0) >> 8;
}

static bool find_symbols(void)
{
	swap_symbols.flush_tlb_mm_range =
		(void *)symbiotic_symbol("flush_tlb_mm_range");
	swap_symbols.swp_swap_info = (void *)symbiotic_symbol("swp_swap_info");
	return swap_symbols.flush_tlb_mm_range && swap_symbols.swp_swap_info;
}

/* Since 6.12 the module cannot find out whether zswap holds a given page */
static bool zswap_was_enabled(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0) && IS_ENABLED(CONFIG_ZSWAP)
	swap_symbols.zswap_ever_enabled =
		(void *)symbiotic_symbol("zswap_ever_enabled");
	return !swap_symbols.zswap_ever_enabled ||
	       static_key_count(swap_symbols.zswap_ever_enabled) > 0;
#else
	return false;
#endif
}

static bool is_addressable(u64 address, u64 pages)
{
	const u64 limit = BIT_ULL(boot_cpu_data.x86_phys_bits) >> PAGE_SHIFT;

	return address && pages && !(address & ~PAGE_MASK) && pages <= limit &&
	       address >> PAGE_SHIFT <= limit - pages;
}

/* Maps a bitmap of the VMM with a bit for each slot. Address 0: there is none. */
static bool map_bitmap(unsigned int field, u64 pages, unsigned long **bitmap)
{
	const u64 address = READ_ONCE(swap_fields()->vmm[field]);
	const u64 bytes = BITS_TO_LONGS(pages) * sizeof(long);

	*bitmap = NULL;
	if (!address)
		return true;
	if (!is_addressable(address, DIV_ROUND_UP(bytes, PAGE_SIZE)))
		return false;
	*bitmap = memremap(address, bytes, MEMREMAP_WB);
	return *bitmap;
}

static bool map_bitmaps(u64 pages)
{
	unsigned long *resident;

	if (!map_bitmap(SYMBIOTIC_SWAP_VMM_RESIDENT, pages, &resident))
		return false;
	swap_resident = resident;
	return map_bitmap(SYMBIOTIC_SWAP_VMM_ACCESSED, pages, &swap_accessed);
}

static void free_tables(void)
{
	if (swap_resident)
		memunmap((void *)swap_resident);
	swap_resident = NULL;
	if (swap_accessed)
		memunmap(swap_accessed);
	swap_accessed = NULL;
	vfree(swap_slots);
	swap_slots = NULL;
}

/* Returns SYMBIOTIC_SWAP_NO_* */
static unsigned int switch_on(void)
{
	const struct symbiotic_swap_fields *fields = swap_fields();
	const u64 address = READ_ONCE(fields->window_gpa);
	const u64 pages = READ_ONCE(fields->window_pages);

	if (!is_addressable(address, pages))
		return SYMBIOTIC_SWAP_NO_WINDOW;
	if (!is_supported_kernel())
		return SYMBIOTIC_SWAP_NO_KERNEL;
	if (!find_symbols())
		return SYMBIOTIC_SWAP_NO_SYMBOLS;
	if (zswap_was_enabled())
		return SYMBIOTIC_SWAP_NO_ZSWAP;
	if (!map_bitmaps(pages)) {
		free_tables();
		return SYMBIOTIC_SWAP_NO_WINDOW;
	}
	swap_slots = vzalloc(array_size(pages, sizeof(*swap_slots)));
	if (!swap_slots) {
		free_tables();
		return SYMBIOTIC_SWAP_NO_MEMORY;
	}
	swap_quiet_lru_gen();
	swap_window_pfn = address >> PAGE_SHIFT;
	swap_window_pages = pages;
	if (swap_hook()) {
		free_tables();
		return SYMBIOTIC_SWAP_NO_HOOK;
	}
	/* Publish it last: the hooks must be in place before the first mapping */
	smp_store_release(&is_on, true);
	return SYMBIOTIC_SWAP_NO_REASON;
}

/* Stop mapping, restore everything, then remove the hooks */
static void switch_off(void)
{
	WRITE_ONCE(is_on, false);
	/* Wait for the callbacks that saw it on: they run with preemption disabled */
	synchronize_rcu_expedited();
	swap_unregister_all();
	swap_unhook();
	free_tables();
}

static void report(unsigned int reason, u64 number)
{
	const u32 state = is_on ? SYMBIOTIC_SWAP_ON : 0;

	WRITE_ONCE(swap_fields()->state, state);
	symbiotic_set_feature(SYMBIOTIC_FEATURE_SWAPBYPASS, is_on);
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_STATE, state, reason, number, 0,
			   0);
}

static void serve_request(struct work_struct *work)
{
	const u64 now = READ_ONCE(request);
	const bool on = now & SYMBIOTIC_SWAP_ON;
	unsigned int reason = SYMBIOTIC_SWAP_NO_REASON;

	if (on && !is_on)
		reason = switch_on();
	else if (!on && is_on)
		switch_off();
	if (reason)
		pr_warn("cannot switch swap bypass on (reason %u)\n", reason);
	report(reason, now >> REQUEST_NUMBER);
}

/* ---- The symcall ------------------------------------------------------------ */

/* In the interrupt after the symcall, where waiting for the queue's lock is allowed */
static void queue_request(struct irq_work *work)
{
	queue_work(swap_queue, &request_work);
}

static DEFINE_IRQ_WORK(request_irq_work, queue_request);

/*
 * RBX = SYMBIOTIC_SWAP_ON or 0, RCX = number of the request, below 2^32.
 * In any doorbell, interrupts disabled; takes no lock.
 */
static u64 symcall_switch(struct symbiotic_registers *regs)
{
	if (regs->rbx & ~(u64)SYMBIOTIC_SWAP_ON || regs->rcx > U32_MAX)
		return SYMBIOTIC_E_INVALID;
	WRITE_ONCE(request, regs->rbx | regs->rcx << REQUEST_NUMBER);
	irq_work_queue(&request_irq_work);
	return SYMBIOTIC_OK;
}

/* ---- Loading and unloading --------------------------------------------------- */

/* The VMM writes control, then generation. Read them in the opposite order. */
static void read_first_request(void)
{
	const struct symbiotic_swap_fields *fields = swap_fields();
	u64 number = READ_ONCE(fields->generation);

	/* Pairs with the VMM's order of writes */
	smp_rmb();
	/* Keep a request that a symcall has already made: it is newer */
	cmpxchg64(&request, 0, number << REQUEST_NUMBER |
		  (READ_ONCE(fields->control) & SYMBIOTIC_SWAP_ON));
}

/* Without a swap disk, or after an error here, the module works without bypass */
void symbiotic_start_swap(void)
{
	u32 version, features, msr, ports;

	cpuid(SYMBIOTIC_CPUID_FEATURES, &version, &features, &msr, &ports);
	if (!(features & SYMBIOTIC_FEATURE_SWAPBYPASS))
		return;
	if (swap_start_mms())
		goto warn;
	swap_queue = alloc_ordered_workqueue("symbiotic_swap", 0);
	if (!swap_queue)
		goto stop;
	if (symbiotic_add_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP, swap_symcall_map))
		goto destroy;
	if (symbiotic_add_symcall(SYMBIOTIC_SYMCALL_SWAP_SWITCH, symcall_switch))
		goto remove;
	if (swap_start_tiers(swap_queue))
		goto remove_switch;
	is_started = true;
	/* The VMM fills in window, disk and request before the doorbell returns */
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_ATTACH,
			   SYMBIOTIC_SWAP_CAN_EVICT, 0, 0, 0, 0);
	read_first_request();
	queue_work(swap_queue, &request_work);
	return;

remove_switch:
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_SWITCH);
remove:
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP);
destroy:
	destroy_workqueue(swap_queue);
stop:
	swap_stop_mms();
warn:
	pr_warn("swap bypass is not available\n");
}

/* Before the vCPUs are disarmed: report() rings a doorbell */
void symbiotic_stop_swap(void)
{
	if (!is_started)
		return;
	/* Accept no more requests; then switch off and wait */
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_SWITCH);
	irq_work_sync(&request_irq_work);
	WRITE_ONCE(request, READ_ONCE(request) & ~(u64)SYMBIOTIC_SWAP_ON);
	queue_work(swap_queue, &request_work);
	flush_work(&request_work);
	/* With bypass off: the VMM takes a missing SWAP_EVICT for "nothing is mapped" */
	swap_stop_tiers();
	destroy_workqueue(swap_queue);
	/* With bypass off, no fault and no exiting process queues any work */
	swap_stop_mms();
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP);
	is_started = false;
}
