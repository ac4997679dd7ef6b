// SPDX-License-Identifier: GPL-2.0
/* swapguard: get_user_pages(), readahead, swapoff and page-table changes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/swap.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swapguard.h"

/* A child is stuck when the swap in use has not changed for so long, or after so long */
#define STILL_SECONDS	6
#define STUCK_SECONDS	40

/* Shared with the child, which sets it before the call that may not end */
static volatile int *begun;

static long used_swap(void)
{
	FILE *file = fopen("/proc/swaps", "r");
	long used, sum = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*s %*s %*s %ld", &used) == 1)
			sum += used;
	if (file)
		fclose(file);
	return sum;
}

/*
 * Runs @work in a child; kills it and returns true if it doesn't end. A busy
 * machine makes it slow, not stuck.
 */
static bool is_stuck(void (*work)(void *), void *data)
{
	int tenths, still = 0;
	long used = 0, before;
	pid_t child;

	begun = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (begun == MAP_FAILED)
		die("mmap");
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		work(data);
		_exit(0);
	}
	for (tenths = 0; still < 10 * STILL_SECONDS && tenths < 10 * STUCK_SECONDS; tenths++) {
		if (waitpid(child, NULL, WNOHANG) == child)
			return false;
		before = used;
		used = used_swap();
		still = *begun && used == before ? still + 1 : 0;
		usleep(100000);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return true;
}

/* ---- Changes of the page table -------------------------------------------------- */

int guard_range(void)
{
	unsigned char *base = swapped_region(SOME_PAGES, 1);

	check(base, SOME_PAGES, 1, "swapped");
	if (madvise(base, SOME_PAGES * PAGE, MADV_DONTNEED))
		die("MADV_DONTNEED");
	return *word(base, 3) ? wrong("thrown away, and there", 3) : 0;
}

/* ---- get_user_pages() and readahead ----------------------------------------------- */

static void pin(void *base)
{
	static unsigned char copy[SOME_PAGES * PAGE];
	struct iovec from = { base, sizeof(copy) }, to = { copy, sizeof(copy) };

	*begun = 1;
	if (process_vm_readv(getppid(), &to, 1, &from, 1, 0) != sizeof(copy))
		die("process_vm_readv");
}

static void pin_own(void *base)
{
	static unsigned char copy[SOME_PAGES * PAGE];
	struct iovec from = { base, sizeof(copy) }, to = { copy, sizeof(copy) };

	/* In the child, which no longer shares the pages with its parent once it writes to them */
	become_known();
	fill(base, SOME_PAGES, 7000);
	swap_out(base, SOME_PAGES);
	*begun = 1;
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != sizeof(copy))
		die("process_vm_readv");
}

/* get_user_pages() on a swapped page */
int guard_user(void)
{
	unsigned char *base = reserve(SOME_PAGES * PAGE);

	return is_stuck(pin_own, base) ? wrong("stuck", 0) : 0;
}

/* get_user_pages() on a page that bypass has mapped */
int guard_pin(void)
{
	unsigned char *base = swapped_region(SOME_PAGES, 1);

	check(base, SOME_PAGES, 1, "swapped");
	return is_stuck(pin, base) ? wrong("stuck", 0) : 0;
}

/*
 * Swap readahead reads the slot of a mapped page, and the program then writes
 * to the page. To start readahead, the test pins one page, which restores it
 * and swaps it in; mprotect() would restore the whole 2 MiB, as it may have to
 * split a huge page.
 */
int guard_read(void)
{
	struct iovec from, to;
	unsigned char *base;
	uint64_t copy;
	size_t i, k;

	read_around_slots();
	base = swapped_region(8 * SOME_PAGES, 1);
	check(base, 8 * SOME_PAGES, 1, "swapped");
	for (i = 0; i + 12 < 8 * SOME_PAGES; i += 9) {
		for (k = i + 4; k < i + 7; k++) {
			from = (struct iovec){ word(base, k), 8 };
			to = (struct iovec){ &copy, 8 };
			if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 8)
				die("process_vm_readv");
		}
		usleep(2000);
		for (k = i; k < i + 9; k++)
			*word(base, k) = 3000000 + k;
		put_back(base, i, 9);
		for (k = i; k < i + 9; k++)
			if (*word(base, k) != 3000000 + k)
				return wrong("older than what was written", k);
	}
	return 0;
}

/* ---- swapoff ------------------------------------------------------------------------ */

struct race {
	unsigned char *base;
	volatile int go;
};

static char device[64];

static void switch_off(void *data)
{
	struct race *race = data;

	*begun = 1;
	race->go = 1;
	if (swapoff(device))
		die("swapoff");
}

static void *touch_all(void *data)
{
	struct race *race = data;
	size_t i;

	while (!race->go)
		;
	for (i = MANY_PAGES; i > 0; i--)
		*(volatile uint64_t *)word(race->base, i - 1);
	return NULL;
}

/* Runs swapoff while pages are mapped, or while a thread accesses swapped pages */
static int swapoff_ends(bool with_thread)
{
	struct race *race = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;
	bool stuck;

	if (race == MAP_FAILED)
		die("mmap");
	find_device(device);
	race->base = swapped_region(MANY_PAGES, 1);
	if (!with_thread)
		check(race->base, MANY_PAGES, 1, "swapped");
	else if (pthread_create(&thread, NULL, touch_all, race))
		die("pthread_create");
	stuck = is_stuck(switch_off, race);
	if (with_thread)
		pthread_join(thread, NULL);
	if (check(race->base, MANY_PAGES, 1, "after swapoff"))
		return 1;
	if (!stuck && swapon(device, 0))
		die("swapon");
	return stuck ? wrong("swapoff is stuck", 0) : 0;
}

int guard_swapoff(void)
{
	return swapoff_ends(false);
}

int guard_usable(void)
{
	return swapoff_ends(true);
}
