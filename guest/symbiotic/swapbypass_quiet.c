// SPDX-License-Identifier: GPL-2.0
/*
 * The multi-generational LRU walks page tables. It skips a special or devmap
 * entry, as it should, but warns once about such an entry in anonymous memory.
 * Mark these WARN_ON_ONCE() as done.
 */
#include <linux/bug.h>
#include <linux/kallsyms.h>
#include <linux/string.h>

#include "swapbypass.h"

#if IS_ENABLED(CONFIG_LRU_GEN) && defined(CONFIG_DEBUG_BUGVERBOSE) && \
	defined(CONFIG_GENERIC_BUG_RELATIVE_POINTERS)

static const char * const walkers[] = {
	"get_pte_pfn", "walk_pte_range", "walk_pmd_range", "lru_gen_look_around",
};

static bool is_walker(unsigned long address)
{
	char name[KSYM_SYMBOL_LEN];
	size_t i;

	sprint_symbol_no_offset(name, address);
	for (i = 0; i < ARRAY_SIZE(walkers); i++)
		if (!strncmp(name, walkers[i], strlen(walkers[i])))
			return true;
	return false;
}

/* Process context */
void swap_quiet_lru_gen(void)
{
	const unsigned int once = BUGFLAG_WARNING | BUGFLAG_ONCE;
	struct bug_entry *bug, *end;
	const char *file;

	bug = (struct bug_entry *)symbiotic_symbol("__start___bug_table");
	end = (struct bug_entry *)symbiotic_symbol("__stop___bug_table");
	for (; bug && bug < end; bug++) {
		if ((bug->flags & once) != once)
			continue;
		file = (const char *)&bug->file_disp + bug->file_disp;
		if (strstr(file, "mm/vmscan.c") &&
		    is_walker((unsigned long)&bug->bug_addr_disp + bug->bug_addr_disp))
			bug->flags |= BUGFLAG_DONE;
	}
}

#else

void swap_quiet_lru_gen(void)
{
}

#endif
