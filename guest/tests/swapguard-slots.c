// SPDX-License-Identifier: GPL-2.0
/* swapguard: pages whose slots have other contents, or that processes share. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swapguard.h"

/*
 * A page is in its slot and still in the swap cache. If bypass maps the slot
 * and the process writes to it, a later ordinary fault returns the older page
 * from the swap cache.
 */
int guard_cache(void)
{
	static unsigned char copy[SOME_PAGES * PAGE];
	unsigned char *base = reserve(SOME_PAGES * PAGE);
	struct iovec from = { base, sizeof(copy) }, to = { copy, sizeof(copy) };
	uint64_t round;

	for (round = 1; round <= 20; round++) {
		fill(base, SOME_PAGES, round << 32);
		madvise(base, SOME_PAGES * PAGE, MADV_PAGEOUT);
		fill(base, SOME_PAGES, round << 40);
		put_back(base, 0, SOME_PAGES);
		/* Read by the kernel: an access from user mode would map the slot by bypass */
		if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != sizeof(copy))
			die("process_vm_readv");
		if (check(copy, SOME_PAGES, round << 40, "older than what was written"))
			return 1;
	}
	return 0;
}

/* A page that parent and child share until one of them writes */
int guard_shared(void)
{
	unsigned char *base = swapped_region(SOME_PAGES, 1000);
	pid_t child;

	madvise(base, SOME_PAGES * PAGE, MADV_DOFORK);
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		become_known();
		fill(base, SOME_PAGES, 2000);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	return check(base, SOME_PAGES, 1000, "written by the child");
}

/* The kernel doesn't write zero pages to their slots, which have other contents */
int guard_zero(void)
{
	unsigned char *base = reserve(SOME_PAGES * PAGE);
	size_t i;

	memset(base, 0, SOME_PAGES * PAGE);
	swap_out(base, SOME_PAGES);
	for (i = 0; i < SOME_PAGES * WORDS; i++)
		if (((uint64_t *)base)[i])
			return wrong("not zero", i / WORDS);
	return 0;
}

/* The pages are on another swap device, whose slots have the same numbers */
int guard_device(void)
{
	return check(swapped_region(SOME_PAGES, 5000), SOME_PAGES, 5000, "of another device");
}

/* The pages are in zswap, and their slots have older contents */
int guard_zswap(void)
{
	return check(swapped_region(SOME_PAGES, 6000), SOME_PAGES, 6000, "in zswap");
}

/* Whole 2 MiB: for part of it the kernel would split a huge page and call the notifier */
#define LOCKED_PAGES	512

/*
 * Locked pages must be in RAM, and no longer count as swapped. At least half
 * of them: some may not have been swapped out, and Linux 6.1 counts 64 at a
 * time.
 */
static int check_locked(unsigned char *base, long before)
{
	if (check(base, LOCKED_PAGES, 1, "locked"))
		return 1;
	return before - swapped_kibibytes() < (long)(LOCKED_PAGES * PAGE / 2048) ?
	       wrong("locked, and not in RAM", 0) : 0;
}

/* Pages that are accessed after mlock() */
int guard_locked(void)
{
	unsigned char *base = swapped_region(LOCKED_PAGES, 1);
	long before = swapped_kibibytes();

	if (mlock2(base, LOCKED_PAGES * PAGE, MLOCK_ONFAULT))
		die("mlock2");
	return check_locked(base, before);
}

/* Pages that are accessed before mlock(), so that bypass has mapped them */
int guard_mlock(void)
{
	unsigned char *base = swapped_region(LOCKED_PAGES, 1);
	long before = swapped_kibibytes();

	if (check(base, LOCKED_PAGES, 1, "swapped"))
		return 1;
	if (mlock(base, LOCKED_PAGES * PAGE))
		die("mlock");
	return check_locked(base, before);
}

/* The kernel must not report a page as written that was only read */
int guard_clean(void)
{
	unsigned char *base = reserve(SOME_PAGES * PAGE);
	int file = open("/proc/self/clear_refs", O_WRONLY);
	int map = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;
	size_t i;

	fill(base, SOME_PAGES, 1);
	if (file < 0 || map < 0 || write(file, "4", 1) != 1)
		die("clear_refs");
	swap_out(base, SOME_PAGES);
	if (check(base, SOME_PAGES, 1, "after clear_refs"))
		return 1;
	for (i = 0; i < SOME_PAGES; i++) {
		if (pread(map, &entry, 8, (off_t)((uintptr_t)word(base, i) / PAGE * 8)) != 8)
			die("pagemap");
		if (entry >> 55 & 1)
			return wrong("soft-dirty without a write", i);
	}
	return 0;
}
