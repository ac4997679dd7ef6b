// SPDX-License-Identifier: GPL-2.0
/*
 * Swap bypass against its rules, for tests of the VMM: built with
 * SYMBIOTIC_TEST=1 only.
 *
 *   echo doorbells|window|lie|honest > /sys/module/symbiotic/parameters/hostile
 *
 * doorbells: such that say nonsense; window: writes all over it, and behind
 * it; lie: SWAP_MAP says that it has mapped what it has not, until honest.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/random.h>
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
		/* What they say of the switch would be believed */
		if (number == SYMBIOTIC_DOORBELL_SWAP_STATE)
			continue;
		symbiotic_doorbell(number, wild(i), wild(i + 1), wild(i + 2),
				   wild(i), wild(i + 1));
	}
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SWAP_ATTACH, 0, 0, 0, 0, 0);
}

static int write_window(void)
{
	const u64 start = symbiotic_global->swap_window_gpa;
	const u64 bytes = symbiotic_global->swap_window_pages << PAGE_SHIFT;
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

/* Says that it has mapped more than there is */
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
	else
		return -EINVAL;
	return 0;
}

static const struct kernel_param_ops hostile_ops = { .set = set_hostile };

module_param_cb(hostile, &hostile_ops, NULL, 0200);
MODULE_PARM_DESC(hostile, "doorbells, window, lie or honest");
