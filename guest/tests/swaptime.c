// SPDX-License-Identifier: GPL-2.0
/*
 * Measures the time of memory accesses.
 *
 *   swaptime MEBIBYTES PASSES [wait]
 *
 * Fills MEBIBYTES, and prints for each pass over them how many nanoseconds a
 * touched page took. PASSES: seq, random, write, sparse, new, locked or pageout,
 * with commas between, each with *COUNT to repeat it; the first three also with
 * /N, to end after an Nth of the pages: random/8*2. write: writes in order;
 * sparse: one page of each 2 MiB; new: touches newly mapped memory; locked:
 * other memory, a quarter as much, which is locked into RAM; pageout: touches
 * nothing, but asks the kernel to swap all of it out. wait: prints a line and
 * reads one before each pass.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include "swaptools.h"

static size_t not_resident(unsigned char *base, size_t pages)
{
	unsigned char *states = malloc(pages);
	size_t i, count = 0;

	if (!states || mincore(base, pages * PAGE, states))
		die("mincore");
	for (i = 0; i < pages; i++)
		count += !(states[i] & 1);
	free(states);
	return count;
}

/* Both return how many pages they touched */
static size_t fill(unsigned char *base, size_t pages)
{
	size_t i;

	for (i = 0; i < pages; i++)
		*(uint64_t *)(base + i * PAGE) = mix(i) | 1;
	return pages;
}

/* Accesses an Nth of the pages; "random" spreads them over all pages */
static size_t touch(unsigned char *base, size_t pages, const char *order, size_t nth)
{
	const size_t step = strcmp(order, "sparse") ? 1 : 512;
	const bool is_random = !strcmp(order, "random");
	const bool is_write = !strcmp(order, "write");
	size_t i, count = 0;

	for (i = 0; i < pages / nth; i += step) {
		/* A prime stride visits each page once */
		size_t page = is_random ? (i * 65537 + 7) % pages : i;
		uint64_t *at = (uint64_t *)(base + page * PAGE);

		if (*at != (mix(page) | 1)) {
			fprintf(stderr, "swaptime: page %zu is wrong\n", page);
			exit(1);
		}
		if (is_write)
			at[1] = i;
		count++;
	}
	return count;
}

/* Returns memory that is locked, so that accesses don't fault */
static unsigned char *reserve_locked(size_t pages)
{
	unsigned char *base = reserve(pages * PAGE);

	fill(base, pages);
	if (mlock(base, pages * PAGE))
		die("mlock");
	/* Wait like the other passes after their last access, so that the TLBs are in the same state */
	usleep(100000);
	return base;
}

static void wait_for_line(int pass)
{
	char line[64];

	printf("swaptime: ready for pass %d\n", pass);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		exit(1);
}

static bool is_known(const char *order)
{
	static const char * const known[] = { "seq", "random", "write", "sparse", "new", "locked", "pageout" };
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(order, known[i]))
			return true;
	return false;
}

/* Returns the new address of the memory */
static unsigned char *run(int pass, const char *order, size_t nth, unsigned char *base, size_t pages)
{
	const bool is_new = !strcmp(order, "new"), is_locked = !strcmp(order, "locked");
	const size_t quarter = pages / 4;
	unsigned char *locked = is_locked ? reserve_locked(quarter) : NULL;
	struct rusage before, after;
	size_t out, touched;
	double start, time;

	if (is_new) {
		munmap(base, pages * PAGE);
		base = reserve(pages * PAGE);
	}
	out = is_locked ? not_resident(locked, quarter) : not_resident(base, pages);
	getrusage(RUSAGE_SELF, &before);
	start = now();
	if (is_new)
		touched = fill(base, pages);
	else if (is_locked)
		touched = touch(locked, quarter, "seq", 1);
	else if (!strcmp(order, "pageout"))
		touched = madvise(base, pages * PAGE, MADV_PAGEOUT) ? 0 : pages;
	else
		touched = touch(base, pages, order, nth);
	time = now() - start;
	getrusage(RUSAGE_SELF, &after);
	printf("swaptime: pass %d %s %zu pages %.1f ns/page, %zu of %zu were out, %ld major and %ld minor faults\n",
	       pass, order, touched, time * 1e9 / (double)(touched ? touched : 1), out, is_locked ? quarter : pages,
	       after.ru_majflt - before.ru_majflt, after.ru_minflt - before.ru_minflt);
	fflush(stdout);
	if (is_locked)
		munmap(locked, quarter * PAGE);
	return base;
}

/* Removes the sign and the number after it from @order; returns the number, or 1 */
static size_t number_after(char *order, char sign)
{
	char *at = strchr(order, sign);
	size_t number = at ? strtoul(at + 1, NULL, 10) : 1;

	if (at)
		*at = 0;
	return number ? number : 1;
}

int main(int argc, char **argv)
{
	unsigned char *base;
	int pass = 1, round;
	size_t pages;
	char *order;

	if (argc < 3) {
		fprintf(stderr, "usage: swaptime MEBIBYTES PASSES [wait]\n");
		return 2;
	}
	pages = (strtoul(argv[1], NULL, 0) << 20) / PAGE;
	base = reserve(pages * PAGE);
	fill(base, pages);
	/* The first fault registers the process with the module, which takes a moment */
	for (round = 0; round < 2; round++) {
		madvise(base, 16 * PAGE, MADV_PAGEOUT);
		usleep(200000);
		*(volatile uint64_t *)base;
		usleep(200000);
	}
	for (order = strtok(argv[2], ","); order; order = strtok(NULL, ",")) {
		const size_t times = number_after(order, '*'), nth = number_after(order, '/');
		size_t i;

		if (!is_known(order)) {
			fprintf(stderr, "swaptime: no such order: %s\n", order);
			return 2;
		}
		for (i = 0; i < times; i++, pass++) {
			if (argc > 3 && !strcmp(argv[3], "wait"))
				wait_for_line(pass);
			base = run(pass, order, nth, base, pages);
		}
	}
	return 0;
}
