// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass (docs/SWAPBYPASS.md): the switch. It is turned by the VMM at
 * load time or by a symcall, and takes effect on a queue of its own, one turn
 * after the other.
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
const unsigned long *swap_held;
struct workqueue_struct *swap_queue;

#ifdef SYMBIOTIC_TEST
unsigned int swap_without;
module_param_named(without, swap_without, uint, 0600);
MODULE_PARM_DESC(without, "Mask of the guards of swap bypass that are out");

unsigned int swap_pause;
module_param_named(pause, swap_pause, uint, 0600);
MODULE_PARM_DESC(pause, "Milliseconds in which the page of a fault may be read");
#endif

static bool is_on;		/* written on the queue */
/*
 * What the VMM wants last, written by the symcall: the switch, and above it
 * the number of the wish, by which the VMM tells answers apart.
 */
static u64 wish;

#define WISH_NUMBER	32
static bool is_started;

static void turn(struct work_struct *work);
static DECLARE_WORK(turn_work, turn);

bool swap_is_on(void)
{
	/* Pairs with turning it on: whoever sees it on sees its hooks and tables */
	return smp_load_acquire(&is_on);
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

/* The VMM's map of the slots that can be reached; without one, all can */
static bool find_held(u64 address, u64 pages)
{
	const u64 bytes = BITS_TO_LONGS(pages) * sizeof(long);

	swap_held = NULL;
	if (!address)
		return true;
	if (!is_addressable(address, DIV_ROUND_UP(bytes, PAGE_SIZE)))
		return false;
	swap_held = memremap(address, bytes, MEMREMAP_WB);
	return swap_held;
}

static void free_books(void)
{
	if (swap_held)
		memunmap((void *)swap_held);
	swap_held = NULL;
	vfree(swap_slots);
	swap_slots = NULL;
}

/* Returns SYMBIOTIC_SWAP_NO_* */
static unsigned int turn_on(void)
{
	struct symbiotic_global_page *page = symbiotic_global;
	const u64 address = READ_ONCE(page->swap_window_gpa);
	const u64 pages = READ_ONCE(page->swap_window_pages);

	if (!is_addressable(address, pages))
		return SYMBIOTIC_SWAP_NO_WINDOW;
	if (!knows_kernel())
		return SYMBIOTIC_SWAP_NO_KERNEL;
	if (!find_symbols())
		return SYMBIOTIC_SWAP_NO_SYMBOLS;
	if (zswap_is_in_the_way())
		return SYMBIOTIC_SWAP_NO_ZSWAP;
	if (!find_held(READ_ONCE(page->swap_vmm[SYMBIOTIC_SWAP_VMM_HELD]), pages))
		return SYMBIOTIC_SWAP_NO_WINDOW;
	swap_slots = vzalloc(array_size(pages, sizeof(*swap_slots)));
	if (!swap_slots) {
		free_books();
		return SYMBIOTIC_SWAP_NO_MEMORY;
	}
	swap_quiet_lru_gen();
	swap_window_pfn = address >> PAGE_SHIFT;
	swap_window_pages = pages;
	if (swap_hook()) {
		free_books();
		return SYMBIOTIC_SWAP_NO_HOOK;
	}
	/* Nothing is mapped before all that guards it is there */
	smp_store_release(&is_on, true);
	return SYMBIOTIC_SWAP_NO_REASON;
}

/*
 * First nothing new is mapped, then everything is put back, then those go who
 * guard what is mapped.
 */
static void turn_off(void)
{
	WRITE_ONCE(is_on, false);
	/* Who has seen it on is in a callback still, with preemption off */
	synchronize_rcu_expedited();
	swap_forget_all();
	swap_unhook();
	free_books();
}

static void report(unsigned int reason, u64 number)
{
	const u32 state = is_on ? SYMBIOTIC_SWAP_ON : 0;

	WRITE_ONCE(symbiotic_global->swap_state, state);
	symbiotic_set_feature(SYMBIOTIC_FEATURE_SWAPBYPASS, is_on);
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_STATE, state, reason, number, 0,
			   0);
}

static void turn(struct work_struct *work)
{
	const u64 now = READ_ONCE(wish);
	const bool wanted = now & SYMBIOTIC_SWAP_ON;
	unsigned int reason = SYMBIOTIC_SWAP_NO_REASON;

	if (wanted && !is_on)
		reason = turn_on();
	else if (!wanted && is_on)
		turn_off();
	if (reason)
		pr_warn("swap bypass can't be turned on (reason %u)\n", reason);
	report(reason, now >> WISH_NUMBER);
}

/* ---- The symcall ------------------------------------------------------------ */

/* In the interrupt after the symcall: a queue's lock may be waited for here */
static void queue_turn(struct irq_work *work)
{
	queue_work(swap_queue, &turn_work);
}

static DEFINE_IRQ_WORK(turn_irq_work, queue_turn);

/*
 * RBX = SYMBIOTIC_SWAP_ON or 0, RCX = the number of this wish, below 2^32.
 * Any doorbell, interrupts off; takes no lock.
 */
static u64 symcall_switch(struct symbiotic_registers *regs)
{
	if (regs->rbx & ~(u64)SYMBIOTIC_SWAP_ON || regs->rcx > U32_MAX)
		return SYMBIOTIC_E_INVALID;
	WRITE_ONCE(wish, regs->rbx | regs->rcx << WISH_NUMBER);
	irq_work_queue(&turn_irq_work);
	return SYMBIOTIC_OK;
}

/* ---- Loading and unloading --------------------------------------------------- */

/* The VMM writes the switch, then the number: read them the other way round */
static void start_wish(void)
{
	const struct symbiotic_global_page *page = symbiotic_global;
	u64 number = READ_ONCE(page->swap_generation);

	/* Pairs with the VMM's order of writing */
	smp_rmb();
	/* A symcall may have come already, and knows better */
	cmpxchg64(&wish, 0, number << WISH_NUMBER |
		  (READ_ONCE(page->swap_control) & SYMBIOTIC_SWAP_ON));
}

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
	start_wish();
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
	WRITE_ONCE(wish, READ_ONCE(wish) & ~(u64)SYMBIOTIC_SWAP_ON);
	queue_work(swap_queue, &turn_work);
	/*
	 * A queue that is being destroyed takes work from nobody else: first
	 * no fault and no end of a process brings any. What they have brought
	 * is behind the turn.
	 */
	flush_work(&turn_work);
	destroy_workqueue(swap_queue);
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP);
	is_started = false;
}
