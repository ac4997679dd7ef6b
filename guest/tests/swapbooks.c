// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that cost the module of swap bypass much: many regions of 2 MiB with
 * one swapped page each, and more.
 *
 *   swapbooks sparse REGIONS [unmap|stay]   touches a page in each region; prints
 *                                   where the kernel took memory from meanwhile
 *   swapbooks cached PAGES          touches pages that are still in the swap cache
 *   swapbooks stuck                 a thread holds mmap_lock for ever, another
 *                                   touches a swapped page
 *
 * Status 0: no page was wrong; 1: one was; 2: it could not run.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>

#include "swapout.h"

#define LARGE		(PAGE * 512)	/* of one page-table page */
#define HOSTILE		"/sys/module/symbiotic/parameters/hostile"

/* A number from a file: the one after @name, or the first */
static long number_in(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	char line[128];
	long number = -1;

	while (file && number < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			number = atol(line + strlen(name));
	if (number < 0)
		die(path);
	fclose(file);
	return number;
}

static long free_kibibytes(void)
{
	return number_in("/proc/meminfo", "MemFree:");
}

static long charged_kibibytes(void)
{
	return number_in(CGROUPS "/own/memory.current", "") / 1024;
}

/* ---- Many regions ------------------------------------------------------------- */

/* The page of a region: in each at another place */
static uint64_t *page_of(unsigned char *base, size_t region)
{
	return word(base + region * LARGE, region % 512);
}

static int touch_regions(unsigned char *base, size_t regions)
{
	size_t i;

	for (i = 0; i < regions; i++)
		if (*page_of(base, i) != i + 1)
			return wrong("sparse", i);
	return 0;
}

static int sparse(size_t regions, const char *end)
{
	unsigned char *base = reserve(regions * LARGE);
	long used, charged;
	double start;
	size_t i;

	for (i = 0; i < regions; i++)
		*page_of(base, i) = i + 1;
	swap_out(base, regions * 512);
	used = -free_kibibytes();
	charged = charged_kibibytes();
	if (touch_regions(base, regions))
		return 1;
	used += free_kibibytes();
	charged = charged_kibibytes() - charged;
	printf("swapbooks: %zu regions took %ld KiB, of which %ld KiB are charged\n",
	       regions, -used, charged);
	fflush(stdout);
	if (!strcmp(end, "stay"))
		pause();
	if (strcmp(end, "unmap"))
		return touch_regions(base, regions);
	start = now();
	if (munmap(base, regions * LARGE))
		die("munmap");
	printf("swapbooks: munmap took %.1f ms\n", (now() - start) * 1e3);
	return 0;
}

/* ---- Pages in the swap cache ---------------------------------------------------- */

/* MADV_PAGEOUT writes pages to the disk, and leaves many in the swap cache */
static int cached(size_t pages)
{
	unsigned char *base = reserve(pages * PAGE);
	int round;

	for (round = 0; round < 4; round++) {
		fill(base, pages, round);
		if (madvise(base, pages * PAGE, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
		if (check(base, pages, round, "cached"))
			return 1;
	}
	return 0;
}

/* ---- A stuck process ------------------------------------------------------------- */

static void *hold(void *unused)
{
	/* Does not return */
	if (put(HOSTILE, "hold"))
		die(HOSTILE);
	return unused;
}

static int get_stuck(void)
{
	unsigned char *base = reserve(SOME_PAGES * PAGE);
	pthread_t holder;

	fill(base, SOME_PAGES, 1);
	swap_out(base, SOME_PAGES);
	if (pthread_create(&holder, NULL, hold, NULL))
		die("pthread_create");
	usleep(300000);
	if (*word(base, 0) != 1)
		return wrong("stuck", 0);
	printf("swapbooks: stuck\n");
	fflush(stdout);
	pthread_join(holder, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	const size_t number = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	if (argc < 2 || (strcmp(argv[1], "stuck") && !number)) {
		fprintf(stderr, "usage: swapbooks sparse REGIONS [unmap|stay] | cached PAGES | stuck\n");
		return 2;
	}
	enter_group();
	if (!strcmp(argv[1], "stuck"))
		return get_stuck();
	become_known();
	if (!strcmp(argv[1], "cached"))
		return cached(number);
	return sparse(number, argc > 3 ? argv[3] : "");
}
