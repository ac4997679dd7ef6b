// SPDX-License-Identifier: GPL-2.0
/* Swaps the program's memory out on demand, and checks it when it is back. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "swapout.h"

int wrong(const char *what, size_t page)
{
	printf("%s: page %zu has unexpected contents\n", what, page);
	return 1;
}

uint64_t *word(unsigned char *base, size_t page)
{
	return (uint64_t *)(base + page * PAGE);
}

void fill(unsigned char *base, size_t pages, uint64_t value)
{
	size_t i;

	for (i = 0; i < pages; i++)
		*word(base, i) = value + i;
}

int check(unsigned char *base, size_t pages, uint64_t value, const char *what)
{
	size_t i;

	for (i = 0; i < pages; i++)
		if (*word(base, i) != value + i)
			return wrong(what, i);
	return 0;
}

/* ---- Swapping out ------------------------------------------------------------ */

int put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY);
	ssize_t written = file < 0 ? -1 : write(file, text, strlen(text));

	if (file >= 0)
		close(file);
	return written < 0 ? -1 : 0;
}

/* Makes readahead use adjacent slots, not adjacent virtual addresses */
void read_around_slots(void)
{
	if (put("/sys/kernel/mm/swap/vma_ra_enabled", "false"))
		die("vma_ra_enabled");
}

/* Enters a control group of its own, to reclaim its memory on demand */
void enter_group(void)
{
	mkdir(CGROUPS, 0700);
	if (mount("none", CGROUPS, "cgroup2", 0, NULL) && errno != EBUSY)
		die("cgroup2");
	if (put(CGROUPS "/cgroup.subtree_control", "+memory"))
		die("memory control group");
	mkdir(CGROUPS "/own", 0700);
	if (put(CGROUPS "/own/cgroup.procs", "0"))
		die("cgroup.procs");
}

void find_device(char device[64])
{
	FILE *file = fopen("/proc/swaps", "r");

	if (!file || fscanf(file, "%*[^\n] %63s", device) != 1)
		die("/proc/swaps");
	fclose(file);
}

/* The process's swapped memory, as the kernel counts it */
long swapped_kibibytes(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[128];
	long number = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmSwap: %ld", &number) == 1)
			break;
	if (number < 0)
		die("VmSwap");
	fclose(file);
	return number;
}

/* Makes the module restore the swap entries of mapped pages */
void put_back(unsigned char *base, size_t page, size_t pages)
{
	if (mprotect(base + page * PAGE, pages * PAGE, PROT_READ) ||
	    mprotect(base + page * PAGE, pages * PAGE, PROT_READ | PROT_WRITE))
		die("mprotect");
}

/* Tries that swap out no further page, until swap_out() ends; fewer for the last few pages */
#define TRIES		30
#define TRIES_FEW	5
#define FEW		8

/* Writes pages to the disk, and then removes them from the swap cache */
void swap_out(unsigned char *base, size_t pages)
{
	unsigned char *states = malloc(pages);
	size_t i, in = pages, least = pages;
	char text[32];
	int tries;

	if (!states)
		die("malloc");
	/* A busy machine takes longer to write the pages */
	for (tries = 0; in && tries < (in > FEW ? TRIES : TRIES_FEW); tries++) {
		madvise(base, pages * PAGE, MADV_PAGEOUT);
		usleep(20000);
		snprintf(text, sizeof(text), "%zu", in * PAGE);
		/* EAGAIN: the kernel couldn't reclaim all of it */
		put(CGROUPS "/own/memory.reclaim", text);
		if (mincore(base, pages * PAGE, states))
			die("mincore");
		for (in = i = 0; i < pages; i++)
			in += states[i] & 1;
		if (in < least) {
			least = in;
			tries = 0;
		}
	}
	free(states);
	if (in * 8 > pages) {
		fprintf(stderr, "swap: %zu of %zu pages can't be swapped out\n", in, pages);
		exit(2);
	}
}

/* Waits until the module has registered the process, which its first fault starts */
void become_known(void)
{
	unsigned char *base = reserve(SOME_PAGES * PAGE);

	fill(base, SOME_PAGES, 1);
	swap_out(base, SOME_PAGES);
	if (check(base, SOME_PAGES, 1, "at the start"))
		_exit(1);
	usleep(300000);
}

/* Not for a forked child: the module doesn't map a page that two processes share */
unsigned char *swapped_region(size_t pages, uint64_t value)
{
	unsigned char *base = reserve(pages * PAGE);

	if (madvise(base, pages * PAGE, MADV_DONTFORK))
		die("MADV_DONTFORK");
	fill(base, pages, value);
	swap_out(base, pages);
	return base;
}
