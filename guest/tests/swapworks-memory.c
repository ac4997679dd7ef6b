// SPDX-License-Identifier: GPL-2.0
/* swapworks: the kernel moves, merges or counts pages. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swapworks.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The kernel can't swap out what bypass has mapped: restore it first */
static void out_again(unsigned char *base)
{
	put_back(base, 0, PAGES);
	swap_out(base, PAGES);
}

static unsigned long number_in(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long number;

	if (!file || fscanf(file, "%lu", &number) != 1)
		die(path);
	fclose(file);
	return number;
}

/* ---- KSM merges equal pages -------------------------------------------------------- */

#define KSM	"/sys/kernel/mm/ksm/"

static void fill_equal(unsigned char *base, uint64_t value)
{
	size_t i;

	for (i = 0; i < PAGES; i++)
		*word(base, i) = value;
}

static int check_equal(unsigned char *base, uint64_t value, const char *what)
{
	size_t i;

	for (i = 0; i < PAGES; i++)
		if (*word(base, i) != value)
			return wrong(what, i);
	return 0;
}

/* Waits until the scanner has merged many pages, at most two seconds; returns how many */
static unsigned long merged_pages(void)
{
	unsigned long number = 0;
	int tries;

	for (tries = 0; number < PAGES / 2 && tries < 100; tries++) {
		usleep(20000);
		number = number_in(KSM "pages_sharing");
	}
	return number;
}

int works_ksm(void)
{
	unsigned char *base = reserve(PAGES * PAGE);
	unsigned long merged = 0;
	int round, result = 0;

	madvise(base, PAGES * PAGE, MADV_DONTFORK);
	if (madvise(base, PAGES * PAGE, MADV_MERGEABLE))
		die("MADV_MERGEABLE");
	if (put(KSM "pages_to_scan", "5000") || put(KSM "sleep_millisecs", "10"))
		die("ksm");
	for (round = 1; round <= 5; round++) {
		/* Merged pages would not be swapped out */
		put(KSM "run", "2");
		fill_equal(base, round);
		out_again(base);
		put(KSM "run", "1");
		result |= check_equal(base, round, "ksm, mapped");
		usleep(200000);
		result |= check_equal(base, round, "ksm, scanned");
		put_back(base, 0, PAGES);
		/* The kernel's own faults swap in */
		if (madvise(base, PAGES * PAGE, MADV_POPULATE_WRITE))
			die("MADV_POPULATE_WRITE");
		result |= check_equal(base, round, "ksm, in");
		merged += merged_pages();
		*word(base, round) = 99;
		if (*word(base, round + 1) != (uint64_t)round)
			result |= wrong("ksm: a write to one page of many", round + 1);
		*word(base, round) = round;
		result |= check_equal(base, round, "ksm, written");
	}
	put(KSM "run", "2");
	result |= check_equal(base, 5, "ksm, taken apart");
	put(KSM "run", "0");
	if (!merged)
		result |= wrong("ksm: nothing was merged", 0);
	return result;
}

/* ---- Collapse to a huge page --------------------------------------------------------- */

int works_huge(void)
{
	int round, result = 0;

	for (round = 0; round < 5; round++) {
		unsigned char *base = swapped_region(PAGES, 9000 + round);

		result |= check(base, PAGES / 2, 9000 + round, "huge, before");
		madvise(base, PAGES * PAGE, MADV_HUGEPAGE);
		/* It may fail: the test only checks that nothing is lost */
		madvise(base, PAGES * PAGE, MADV_COLLAPSE);
		result |= check(base, PAGES, 9000 + round, "huge, after");
		munmap(base, PAGES * PAGE);
	}
	return result;
}

int works_compaction(void)
{
	unsigned char *base = swapped_region(PAGES, 70);
	int round, result = 0;

	for (round = 0; round < 20; round++) {
		result |= check(base, PAGES, 70, "compaction, mapped");
		if (put("/proc/sys/vm/compact_memory", "1"))
			die("compact_memory");
		result |= check(base, PAGES, 70, "compaction");
		if (round % 4 == 3)
			out_again(base);
	}
	return result;
}

/* ---- Control groups: reclaim at a memory limit, and an OOM kill ------------------------ */

int works_group(void)
{
	const size_t pages = 4 * MANY_PAGES;	/* 64 MiB in 12 */
	unsigned char *base = reserve(pages * PAGE);
	unsigned long most;
	int result = 0;
	size_t i;

	madvise(base, pages * PAGE, MADV_DONTFORK);
	if (put(OWN_GROUP "/memory.max", "12M"))
		die("memory.max");
	fill(base, pages, 12);
	for (i = 0; i < pages; i++) {
		size_t page = mix(i) % pages;

		if (*word(base, page) != 12 + page)
			return wrong("group, random", page);
		if (i % 3 == 0)
			word(base, page)[1] = page;
	}
	result |= check(base, pages, 12, "group");
	most = number_in(OWN_GROUP "/memory.current");
	if (most > 12 << 20)
		result |= wrong("group: more than its limit", most / PAGE);
	put(OWN_GROUP "/memory.max", "max");
	return result | check(base, pages, 12, "group, without a limit");
}

static void burst(void)
{
	unsigned char *base;

	become_known();
	base = swapped_region(PAGES, 1);
	check(base, PAGES, 1, "oom");
	/* From now on the kernel can't swap out this group's memory */
	put(OWN_GROUP "/memory.swap.max", "0");
	put(OWN_GROUP "/memory.oom.group", "0");
	if (put("/proc/self/oom_score_adj", "1000") || put(OWN_GROUP "/memory.max", "8M"))
		_exit(2);
	fill(reserve(4 * MANY_PAGES * PAGE), 4 * MANY_PAGES, 1);
	_exit(3);
}

int works_oom(void)
{
	unsigned char *base = swapped_region(PAGES, 600);
	int round, status, result = 0;

	for (round = 0; round < 5; round++) {
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (!child)
			burst();
		if (waitpid(child, &status, 0) != child)
			die("waitpid");
		put(OWN_GROUP "/memory.max", "max");
		put(OWN_GROUP "/memory.swap.max", "max");
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			return wrong("oom: the child's end", status);
		result |= check(base, PAGES, 600, "oom, who lives");
	}
	return result;
}

/* ---- Other readers of the page tables ---------------------------------------------------- */

static void read_all(const char *path)
{
	static char buffer[1 << 16];
	int file = open(path, O_RDONLY);

	if (file < 0)
		die(path);
	while (read(file, buffer, sizeof(buffer)) > 0)
		;
	close(file);
}

int works_views(void)
{
	unsigned char *base = swapped_region(PAGES, 40);
	unsigned char states[PAGES];
	uint64_t entries[PAGES];
	int round, file, result = 0;

	for (round = 0; round < 20; round++) {
		result |= check(base, PAGES, 40, "views, mapped");
		read_all("/proc/self/smaps");
		read_all("/proc/self/status");
		read_all("/proc/self/numa_maps");
		file = open("/proc/self/pagemap", O_RDONLY);
		if (pread(file, entries, sizeof(entries), (uintptr_t)base / PAGE * 8) != sizeof(entries))
			die("pagemap");
		close(file);
		if (mincore(base, PAGES * PAGE, states))
			die("mincore");
		/* Referenced bits, then soft-dirty bits */
		if (put("/proc/self/clear_refs", round % 2 ? "1" : "4"))
			die("clear_refs");
		result |= check(base, PAGES, 40, "views, after");
		*word(base, round) = 7;
		*word(base, round) = 40 + round;
		if (round % 4 == 3)
			out_again(base);
	}
	return result;
}
