// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel symbols that modules cannot link to. The module also works without
 * them; the results that need them are then SYMBIOTIC_NOT_KNOWN.
 */
#include <linux/kprobes.h>
#include <linux/string.h>

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

/*
 * Takes the VMM's parameter, and the space behind it, out of /proc/cmdline: with it, a
 * kernel that kexec starts with the same command line would look for a program that its
 * initramfs does not have. No process but the loading one and its parent exists.
 */
void symbiotic_restore_command_line(void)
{
	static const char parameter[] = "rdinit=/.symvmm/init";
	char **saved = (char **)symbiotic_symbol("saved_command_line");
	char *start, *rest;

	if (!saved || !*saved)
		return;
	start = strstr(*saved, parameter);
	if (!start)
		return;
	rest = start + sizeof(parameter) - 1;
	if (*rest == ' ')
		rest++;
	memmove(start, rest, strlen(rest) + 1);
}
