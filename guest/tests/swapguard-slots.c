// SPDX-License-Identifier: GPL-2.0
/* swapguard: what is in a page, and not in its slot, or not only this process's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swapguard.h"

/*
 * A page that was written to its slot is still in the swap cache. Who writes
 * to the slot then, and comes back by the ordinary way, finds the older one.
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
		/* Our own look would be at the slot again */
		if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != sizeof(copy))
			die("process_vm_readv");
		if (check(copy, SOME_PAGES, round << 40, "older than what was written"))
			return 1;
	}
	return 0;
}

/* A page that a child shares, until one of them writes */
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

/* Pages of zeroes have a slot that is not written; the disk is full of junk */
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

/* The pages are in zswap, and the slots hold what was in them before */
int guard_zswap(void)
{
	return check(swapped_region(SOME_PAGES, 6000), SOME_PAGES, 6000, "in zswap");
}

/* From one border of 2 MiB to the next: within, the kernel would split a huge page, and say so */
#define LOCKED_PAGES	512

/*
 * What is locked has to be in RAM, and no more counted as swapped. Half of it
 * at least: some may not have gone, and Linux 6.1 counts 64 at a time.
 */
static int check_locked(unsigned char *base, long before)
{
	if (check(base, LOCKED_PAGES, 1, "locked"))
		return 1;
	return before - swapped_kibibytes() < (long)(LOCKED_PAGES * PAGE / 2048) ?
	       wrong("locked, and not in RAM", 0) : 0;
}

/* Touched after it was locked */
int guard_locked(void)
{
	unsigned char *base = swapped_region(LOCKED_PAGES, 1);
	long before = swapped_kibibytes();

	if (mlock2(base, LOCKED_PAGES * PAGE, MLOCK_ONFAULT))
		die("mlock2");
	return check_locked(base, before);
}

/* Touched before, so that it is mapped */
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

/* A page that was only read is not to be told as written */
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
