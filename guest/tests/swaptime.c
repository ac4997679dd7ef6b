// SPDX-License-Identifier: GPL-2.0
/*
 * Times the touching of memory.
 *
 *   swaptime MEBIBYTES PASSES seq|random|sparse|new [write|wait]
 *
 * Fills MEBIBYTES, and says of each of PASSES how many nanoseconds a touched
 * page took. sparse touches one page of each 2 MiB. new touches memory that is
 * mapped anew for each pass. wait: before each pass it says so, and reads a
 * line.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include "swaptools.h"

struct pattern {
	size_t step;
	bool is_random, is_write;
};

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

static size_t touch(unsigned char *base, size_t pages, const struct pattern *pattern)
{
	size_t i, count = 0;

	for (i = 0; i < pages; i += pattern->step) {
		/* A prime stride visits each page once */
		size_t page = pattern->is_random ? (i * 65537 + 7) % pages : i;
		uint64_t *at = (uint64_t *)(base + page * PAGE);

		if (*at != (mix(page) | 1)) {
			fprintf(stderr, "swaptime: page %zu is wrong\n", page);
			exit(1);
		}
		if (pattern->is_write)
			at[1] = i;
		count++;
	}
	return count;
}

static void wait_for_line(int pass)
{
	char line[64];

	printf("swaptime: ready for pass %d\n", pass);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		exit(1);
}

int main(int argc, char **argv)
{
	struct pattern pattern = { .step = 1 };
	struct rusage before, after;
	size_t pages, i, out, touched;
	bool is_new, waits;
	unsigned char *base;
	double start, time;
	int pass, passes;

	if (argc < 4) {
		fprintf(stderr, "usage: swaptime MEBIBYTES PASSES seq|random|sparse|new [write|wait]\n");
		return 2;
	}
	pages = (strtoul(argv[1], NULL, 0) << 20) / PAGE;
	passes = atoi(argv[2]);
	pattern.is_random = !strcmp(argv[3], "random");
	pattern.step = strcmp(argv[3], "sparse") ? 1 : 512;
	pattern.is_write = argc > 4 && !strcmp(argv[4], "write");
	waits = argc > 4 && !strcmp(argv[4], "wait");
	is_new = !strcmp(argv[3], "new");
	base = reserve(pages * PAGE);
	fill(base, pages);
	/* A first fault makes the process known to the module; the answer takes a moment */
	for (i = 0; i < 2; i++) {
		madvise(base, 16 * PAGE, MADV_PAGEOUT);
		usleep(200000);
		*(volatile uint64_t *)base;
		usleep(200000);
	}
	for (pass = 1; pass <= passes; pass++) {
		if (waits)
			wait_for_line(pass);
		if (is_new) {
			munmap(base, pages * PAGE);
			base = reserve(pages * PAGE);
		}
		out = not_resident(base, pages);
		getrusage(RUSAGE_SELF, &before);
		start = now();
		touched = is_new ? fill(base, pages) : touch(base, pages, &pattern);
		time = now() - start;
		getrusage(RUSAGE_SELF, &after);
		printf("swaptime: pass %d %s %zu pages %.0f ns/page, %zu of %zu were out, %ld major and %ld minor faults\n",
		       pass, argv[3], touched, time * 1e9 / (double)touched, out, pages,
		       after.ru_majflt - before.ru_majflt, after.ru_minflt - before.ru_minflt);
		fflush(stdout);
	}
	return 0;
}
