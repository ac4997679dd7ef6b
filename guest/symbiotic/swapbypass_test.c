// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that breaks the rules of swap bypass, for tests of the VMM. Only in
 * the test build (SYMBIOTIC_TEST=1).
 *
 *   echo doorbells|window|lie|honest|hold > /sys/module/symbiotic/parameters/hostile
 *
 * doorbells: rings doorbells with random arguments.
 * window:    writes to the whole window and beyond its end.
 * lie:       SWAP_MAP returns random results, until honest.
 * hold:      keeps the mmap_lock of the writing process until that is killed, as
 *            a page fault in a file does whose server never answers.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "swapbypass.h"

#define DOORBELLS	2000
#define WINDOW_STEP	(64 * PAGE_SIZE)

static u64 wild(unsigned int i)
{
	static const u64 values[] = {
		0, 1, 511, 512, U32_MAX, U64_MAX, 1ULL << 63, 0x1ff00000000ULL,
		0x8000000000000000ULL, 0xffff800000000000ULL, 0x20000000000ULL,
	};

	return i % 3 ? values[get_random_u32() % ARRAY_SIZE(values)] : get_random_u64();
}

static void ring_doorbells(void)
{
	unsigned int i;
	u8 number;

	for (i = 0; i < DOORBELLS; i++) {
		number = SYMBIOTIC_DOORBELL_SWAP_FIRST + i % 16;
		/* The VMM trusts the state of the switch */
		if (number == SYMBIOTIC_DOORBELL_SWAP_STATE)
			continue;
		symbiotic_doorbell(number, wild(i), wild(i + 1), wild(i + 2),
				   wild(i), wild(i + 1));
	}
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_ATTACH,
			   SYMBIOTIC_SWAP_CAN_EVICT, 0, 0, 0, 0);
}

static int write_window(void)
{
	const u64 start = swap_fields()->window_gpa;
	const u64 bytes = swap_fields()->window_pages << PAGE_SHIFT;
	u64 offset;
	void *at;

	for (offset = 0; offset < bytes + 4 * WINDOW_STEP; offset += WINDOW_STEP) {
		at = memremap(start + offset, PAGE_SIZE, MEMREMAP_WB);
		if (!at)
			return -ENOMEM;
		memset(at, 0xa5, PAGE_SIZE);
		memunmap(at);
	}
	return 0;
}

/* Returns more mapped pages than there are entries */
static u64 lie(struct symbiotic_registers *regs)
{
	regs->rbx = U64_MAX;
	regs->rcx = U64_MAX;
	regs->rdx = wild(get_random_u32());
	return SYMBIOTIC_OK;
}

static int replace_map(symbiotic_handler handler)
{
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP);
	return symbiotic_add_symcall(SYMBIOTIC_SYMCALL_SWAP_MAP, handler);
}

static void hold_mmap_lock(void)
{
	mmap_read_lock(current->mm);
	while (!fatal_signal_pending(current))
		schedule_timeout_killable(HZ);
	mmap_read_unlock(current->mm);
}

static int set_hostile(const char *value, const struct kernel_param *parameter)
{
	if (sysfs_streq(value, "doorbells"))
		ring_doorbells();
	else if (sysfs_streq(value, "window"))
		return write_window();
	else if (sysfs_streq(value, "lie"))
		return replace_map(lie);
	else if (sysfs_streq(value, "honest"))
		return replace_map(swap_symcall_map);
	else if (sysfs_streq(value, "hold"))
		hold_mmap_lock();
	else
		return -EINVAL;
	return 0;
}

static const struct kernel_param_ops hostile_ops = { .set = set_hostile };

module_param_cb(hostile, &hostile_ops, NULL, 0200);
MODULE_PARM_DESC(hostile, "doorbells, window, lie, honest or hold");
