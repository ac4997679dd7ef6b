// SPDX-License-Identifier: GPL-2.0
/* swapguard: two processors at the same page. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/uio.h>
#include <unistd.h>

#include "swapguard.h"

static void stay_on(int number)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(number, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* As the kernel does for somebody else: never by bypass, since it is not user mode that faults */
static uint64_t read_by_kernel(uint64_t *at)
{
	struct iovec from = { at, 8 }, to;
	uint64_t copy;

	to = (struct iovec){ &copy, 8 };
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 8)
		die("process_vm_readv");
	return copy;
}

/* ---- One throws away what the other touches --------------------------------------- */

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

/* Takes the first processor away from who would rather have it, again and again */
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

/* A thread touches what is being thrown away, which takes its time */
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

/* ---- One writes to what the other moves to RAM ------------------------------------ */

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

/* A thread writes to the page while it is being moved from its slot to RAM */
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
	/* On one processor they would take turns, and nobody would have an old translation */
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

/* ---- One reads ahead what the other is about to map -------------------------------- */

#define BORDERS		8
#define LARGE		(PAGE * 512)	/* of one page-table page */
#define BEHIND		8		/* pages behind each border */
#define PAUSE		"/sys/module/symbiotic/parameters/pause"

struct looking {
	uint64_t *volatile at;
	volatile double since;
};

/* Has the kernel read the slot of the first page behind a border, and those around it */
static void *read_ahead(void *data)
{
	struct looking *looking = data;
	uint64_t *at = NULL;

	stay_on(1);
	while (1) {
		while (looking->at == at)
			;
		at = looking->at;
		if (!at)
			return NULL;
		while (now() < looking->since + 0.005)
			;
		read_by_kernel(at);
	}
}

/*
 * The page before a border is mapped, and the one behind it read: they have
 * neighbouring slots, but page tables and thus locks of their own. The module
 * pauses after its first look at the former.
 */
static int look_at_borders(unsigned char *base, struct looking *looking)
{
	uint64_t *page;
	size_t i;

	for (i = 1; i <= BORDERS; i++) {
		page = (uint64_t *)(base + i * LARGE - PAGE);
		looking->since = now();
		looking->at = (uint64_t *)(base + i * LARGE);
		*page = 1000 + i;
		usleep(30000);
		put_back((unsigned char *)page, 0, 1);
		if (read_by_kernel(page) != 1000 + i)
			return wrong("older than what was written", i);
	}
	return 0;
}

int guard_look(void)
{
	unsigned char *base = reserve((BORDERS + 1) * LARGE);
	struct looking looking = { 0 };
	pthread_t reader;
	size_t i, k;
	int result;

	read_around_slots();
	/* Nine pages a border, so that not all of them are split by a border of clusters of eight slots */
	for (i = 1; i <= BORDERS; i++)
		for (k = 0; k <= BEHIND; k++)
			*word(base + i * LARGE - PAGE, k) = i;
	swap_out(base, (BORDERS + 1) * LARGE / PAGE);
	if (pthread_create(&reader, NULL, read_ahead, &looking))
		die("pthread_create");
	stay_on(0);
	if (put(PAUSE, "20"))
		die(PAUSE);
	result = look_at_borders(base, &looking);
	put(PAUSE, "0");
	looking.at = NULL;
	pthread_join(reader, NULL);
	return result;
}
