// SPDX-License-Identifier: GPL-2.0
/* swapguard: races of two vCPUs on one page. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/uio.h>
#include <unistd.h>

#include "swapguard.h"

void stay_on(int number)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(number, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* Reads by process_vm_readv(): bypass doesn't map, as the fault isn't in user mode */
uint64_t read_by_kernel(uint64_t *at)
{
	struct iovec from = { at, 8 }, to;
	uint64_t copy;

	to = (struct iovec){ &copy, 8 };
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 8)
		die("process_vm_readv");
	return copy;
}

/* ---- One vCPU discards pages that the other accesses ------------------------------ */

struct race {
	unsigned char *base;
	volatile int go, seen, end;
};

static void *touch_from_the_end(void *data)
{
	struct race *race = data;
	size_t i;

	stay_on(1);
	while (!race->go)
		;
	race->seen = 1;
	for (i = MANY_PAGES; i > 0; i -= 8)
		*(volatile uint64_t *)word(race->base, i - 1);
	return NULL;
}

/* Competes for the first vCPU, so that the thread there is preempted */
static void *disturb(void *data)
{
	struct race *race = data;
	double start;

	stay_on(0);
	while (!race->end) {
		for (start = now(); race->go && now() < start + 0.005;)
			;
		usleep(100);
	}
	return NULL;
}

/* A thread accesses pages while the kernel discards them slowly */
int guard_change(void)
{
	const struct sched_param none = { 0 };
	struct race race = { 0 };
	pthread_t toucher, disturber;
	int round;

	if (pthread_create(&disturber, NULL, disturb, &race))
		die("pthread_create");
	for (round = 0; round < 3; round++) {
		race.base = swapped_region(MANY_PAGES, 1);
		race.go = 0;
		if (pthread_create(&toucher, NULL, touch_from_the_end, &race))
			die("pthread_create");
		usleep(50000);
		stay_on(0);
		if (sched_setscheduler(0, SCHED_IDLE, &none))
			die("SCHED_IDLE");
		race.go = 1;
		if (madvise(race.base, MANY_PAGES * PAGE, MADV_DONTNEED))
			die("MADV_DONTNEED");
		sched_setscheduler(0, SCHED_OTHER, &none);
		while (!race.seen)
			;
		race.go = race.seen = 0;
		pthread_join(toucher, NULL);
		munmap(race.base, MANY_PAGES * PAGE);
	}
	race.end = 1;
	pthread_join(disturber, NULL);
	return 0;
}

/* ---- One vCPU writes to a page that the other swaps in ---------------------------- */

struct counting {
	volatile uint64_t *volatile at;
	volatile int state;	/* 0: wait, 1: count, 2: end */
	volatile int is_lost;
};

static void *count_up(void *data)
{
	struct counting *counting = data;
	volatile uint64_t *at = NULL;
	uint64_t mine = 0;

	stay_on(1);
	while (counting->state != 2) {
		if (counting->at != at) {
			at = counting->at;
			mine = *at;
		}
		if (*at != mine)
			counting->is_lost = 1;
		*at = ++mine;
	}
	return NULL;
}

/* A thread writes to the page while the kernel swaps it in */
int guard_flush(void)
{
	struct counting counting = { 0 };
	unsigned char *base;
	pthread_t thread;
	size_t i;

	base = swapped_region(8 * SOME_PAGES, 1);
	counting.at = word(base, 0);
	if (pthread_create(&thread, NULL, count_up, &counting))
		die("pthread_create");
	/* Use two vCPUs, so that one TLB keeps a stale translation */
	stay_on(0);
	for (i = 0; i < 8 * SOME_PAGES; i++) {
		counting.at = word(base, i);
		usleep(2000);
		read_by_kernel(word(base, i));
		usleep(5000);
	}
	counting.state = 2;
	pthread_join(thread, NULL);
	return counting.is_lost ? wrong("a write was lost", 0) : 0;
}
