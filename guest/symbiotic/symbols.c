// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel symbols that modules cannot link to. The module also works without
 * them; the results that need them are then SYMBIOTIC_NOT_KNOWN.
 */
#include <linux/kprobes.h>

#include <asm/ibt.h>

#include "symbiotic.h"

typedef unsigned long (*lookup_function)(const char *name);

static lookup_function lookup;

const long *symbiotic_total_swap_pages;

static void find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long address;

	if (register_kprobe(&probe))
		return;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
#ifdef CONFIG_X86_KERNEL_IBT
	/* The probe is after the ENDBR64; an indirect call must go to the ENDBR64 */
	if (!is_endbr(*(u32 *)address) && is_endbr(*(u32 *)(address - 4)))
		address -= 4;
#endif
	lookup = (lookup_function)address;
}

unsigned long symbiotic_symbol(const char *name)
{
	return lookup ? lookup(name) : 0;
}

void symbiotic_find_symbols(void)
{
	find_lookup();
	symbiotic_total_swap_pages =
		(const long *)symbiotic_symbol("total_swap_pages");
}
