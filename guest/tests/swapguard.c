// SPDX-License-Identifier: GPL-2.0
/*
 * One test for each guard of swap bypass (enum swap_guard in the module's
 * swapbypass.h): it fails when the module's test build runs without that
 * guard.
 *
 *   swapguard cache|shared|zero|change|flush|read|user|pin|range|swapoff|
 *             usable|clean|device|locked|mlock|look|zswap
 *
 * Status 0: passed; 1: failed; 2: it could not run. A failure of change or
 * range shows in the module's counter of lost pages.
 */
#include "swapguard.h"

static const struct {
	const char *name;
	int (*test)(void);
} guards[] = {
	{ "cache", guard_cache },
	{ "shared", guard_shared },
	{ "zero", guard_zero },
	{ "change", guard_change },
	{ "flush", guard_flush },
	{ "read", guard_read },
	{ "user", guard_user },
	{ "pin", guard_pin },
	{ "range", guard_range },
	{ "swapoff", guard_swapoff },
	{ "usable", guard_usable },
	{ "clean", guard_clean },
	{ "device", guard_device },
	{ "locked", guard_locked },
	{ "mlock", guard_mlock },
	{ "look", guard_look },
	{ "zswap", guard_zswap },
};

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc == 2 && i < sizeof(guards) / sizeof(*guards); i++) {
		if (strcmp(guards[i].name, argv[1]))
			continue;
		enter_group();
		become_known();
		return guards[i].test();
	}
	fprintf(stderr, "usage: swapguard NAME\n");
	return 2;
}
