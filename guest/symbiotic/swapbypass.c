// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass (docs/SWAPBYPASS.md): the switch. It is turned by the VMM at
 * load time or by a symcall, and takes effect on a queue of its own, one turn
 * after the other.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/irq_work.h>
#include <linux/mm.h>
#include <linux/swap.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#include <asm/processor.h>

#include "swapbypass.h"

struct swap_symbols swap_symbols;
struct swap_slot *swap_slots;
unsigned long swap_window_pfn;
unsigned long swap_window_pages;
struct workqueue_struct *swap_queue;

static bool is_on;		/* written on the queue */
static bool is_wanted;		/* written by the symcall */
static bool is_started;

static void turn(struct work_struct *work);
static DECLARE_WORK(turn_work, turn);

bool swap_is_on(void)
{
	return READ_ONCE(is_on);
}

/* ---- Turning it: on the queue ------------------------------------------------ */

static bool knows_kernel(void)
{
	const unsigned int series = LINUX_VERSION_CODE >> 8;

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

/* Since 6.12 the module can't tell which pages zswap holds */
static bool zswap_is_in_the_way(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0) && IS_ENABLED(CONFIG_ZSWAP)
	struct static_key *ever = (void *)symbiotic_symbol("zswap_ever_enabled");

	return !ever || static_key_count(ever) > 0;
#else
	return false;
#endif
}

/* Returns SYMBIOTIC_SWAP_NO_* */
static unsigned int turn_on(void)
{
	struct symbiotic_global_page *page = symbiotic_global;
	const u64 address = READ_ONCE(page->swap_window_gpa);
	const u64 pages = READ_ONCE(page->swap_window_pages);

	if (!address || !pages || address & ~PAGE_MASK ||
	    pages > (BIT_ULL(boot_cpu_data.x86_phys_bits) - 1) >> PAGE_SHIFT ||
	    address > BIT_ULL(boot_cpu_data.x86_phys_bits) - (pages << PAGE_SHIFT))
		return SYMBIOTIC_SWAP_NO_WINDOW;
	if (!knows_kernel())
		return SYMBIOTIC_SWAP_NO_KERNEL;
	if (!find_symbols())
		return SYMBIOTIC_SWAP_NO_SYMBOLS;
	if (zswap_is_in_the_way())
		return SYMBIOTIC_SWAP_NO_ZSWAP;
	/* Before a hook is there; nothing is mapped, so nobody has the old one */
	vfree(swap_slots);
	swap_slots = vzalloc(array_size(pages, sizeof(*swap_slots)));
	if (!swap_slots)
		return SYMBIOTIC_SWAP_NO_MEMORY;
	swap_quiet_lru_gen();
	swap_window_pfn = address >> PAGE_SHIFT;
	swap_window_pages = pages;
	WRITE_ONCE(is_on, true);
	if (swap_hook()) {
		WRITE_ONCE(is_on, false);
		/* The last of the hooks is the one that maps: nothing was */
		return SYMBIOTIC_SWAP_NO_HOOK;
	}
	return SYMBIOTIC_SWAP_NO_REASON;
}

/*
 * First nothing new is mapped, then everything is put back, then those go who
 * guard what is mapped.
 */
static void turn_off(void)
{
	WRITE_ONCE(is_on, false);
	swap_unhook_faults();
	swap_forget_all();
	swap_unhook();
	vfree(swap_slots);
	swap_slots = NULL;
}

static void report(unsigned int reason)
{
	const u32 state = is_on ? SYMBIOTIC_SWAP_ON : 0;

	WRITE_ONCE(symbiotic_global->swap_state, state);
	symbiotic_set_feature(SYMBIOTIC_FEATURE_SWAPBYPASS, is_on);
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_STATE, state, reason, 0, 0, 0);
}

static void turn(struct work_struct *work)
{
	const bool wanted = READ_ONCE(is_wanted);
	unsigned int reason = SYMBIOTIC_SWAP_NO_REASON;

	if (wanted && !is_on)
		reason = turn_on();
	else if (!wanted && is_on)
		turn_off();
	if (reason)
		pr_warn("swap bypass can't be turned on (reason %u)\n", reason);
	report(reason);
}

/* ---- The symcall ------------------------------------------------------------ */

/* In the interrupt after the symcall: a queue's lock may be waited for here */
static void queue_turn(struct irq_work *work)
{
	queue_work(swap_queue, &turn_work);
}

static DEFINE_IRQ_WORK(turn_irq_work, queue_turn);

/* RBX = SYMBIOTIC_SWAP_ON or 0. Any doorbell, interrupts off; takes no lock. */
static u64 symcall_switch(struct symbiotic_registers *regs)
{
	if (regs->rbx & ~(u64)SYMBIOTIC_SWAP_ON)
		return SYMBIOTIC_E_INVALID;
	WRITE_ONCE(is_wanted, regs->rbx & SYMBIOTIC_SWAP_ON);
	irq_work_queue(&turn_irq_work);
	return SYMBIOTIC_OK;
}

/* ---- Loading and unloading --------------------------------------------------- */

/* A VMM without a swap disk, or a failure here, costs swap bypass only */
void symbiotic_start_swap(void)
{
	u32 version, features, msr, ports;

	cpuid(SYMBIOTIC_CPUID_FEATURES, &version, &features, &msr, &ports);
	if (!(features & SYMBIOTIC_FEATURE_SWAPBYPASS))
		return;
	swap_queue = alloc_ordered_workqueue("symbiotic_swap", 0);
	if (!swap_queue)
		return;
	if (symbiotic_add_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP, swap_symcall_map))
		goto destroy;
	if (symbiotic_add_symcall(SYMBIOTIC_SYMCALL_SWAP_SWITCH, symcall_switch))
		goto remove;
	is_started = true;
	/* The VMM fills in window, disk and switch before it returns */
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_ATTACH, 0, 0, 0, 0, 0);
	is_wanted = READ_ONCE(symbiotic_global->swap_control) & SYMBIOTIC_SWAP_ON;
	queue_work(swap_queue, &turn_work);
	return;

remove:
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP);
destroy:
	destroy_workqueue(swap_queue);
	pr_warn("swap bypass is not there\n");
}

/* Before the vCPUs are disarmed: the way back needs none, the report does */
void symbiotic_stop_swap(void)
{
	if (!is_started)
		return;
	/* Nobody turns it any more; then off, and wait until it is */
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_SWITCH);
	irq_work_sync(&turn_irq_work);
	WRITE_ONCE(is_wanted, false);
	queue_work(swap_queue, &turn_work);
	/* With all that is behind it: processes that end meanwhile */
	destroy_workqueue(swap_queue);
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP);
	is_started = false;
}
