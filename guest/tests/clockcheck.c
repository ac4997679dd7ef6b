// SPDX-License-Identifier: GPL-2.0
/*
 * clockcheck: checks that clocks and timers keep running. Sleeps again and
 * again, uses a one-shot and a periodic timer, and compares them with the
 * monotonic clock. Prints by how much each count in /proc/interrupts grew.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LINES_MAX	256
#define SECOND		1000000000ULL

struct interrupt {
	char name[16];
	char what[64];
	uint64_t count;
};

static unsigned int failures;

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static void fail(const char *what, uint64_t found, uint64_t bound)
{
	if (failures++ < 20)
		fprintf(stderr, "clockcheck: %s: %llu, bound %llu\n", what,
			(unsigned long long)found, (unsigned long long)bound);
}

/* Each interrupt's count, as the sum over all CPUs */
static size_t read_interrupts(struct interrupt *to)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char *line = NULL;
	size_t size = 0, count = 0;

	if (!file)
		return 0;
	if (getline(&line, &size, file) < 0)
		count = 0;
	while (count < LINES_MAX && getline(&line, &size, file) > 0) {
		struct interrupt *interrupt = &to[count];
		char *at = line, *end;

		if (sscanf(line, " %15[^:]:", interrupt->name) != 1)
			continue;
		at = strchr(line, ':') + 1;
		interrupt->count = 0;
		for (;;) {
			unsigned long long value = strtoull(at, &end, 10);

			if (end == at || (*end && !isspace((unsigned char)*end)))
				break;
			interrupt->count += value;
			at = end;
		}
		while (isspace((unsigned char)*at))
			at++;
		at[strcspn(at, "\n")] = '\0';
		snprintf(interrupt->what, sizeof(interrupt->what), "%.63s", at);
		count++;
	}
	free(line);
	fclose(file);
	return count;
}

static void print_interrupts(const struct interrupt *before, size_t count_before,
			     const struct interrupt *after, size_t count_after)
{
	size_t i, j;

	for (i = 0; i < count_after; i++) {
		uint64_t start = 0;

		for (j = 0; j < count_before; j++)
			if (!strcmp(before[j].name, after[i].name))
				start = before[j].count;
		if (after[i].count != start)
			printf("interrupts: %s +%llu %s\n", after[i].name,
			       (unsigned long long)(after[i].count - start),
			       after[i].what);
	}
}

static int periodic_timer(uint64_t period)
{
	struct itimerspec spec = {
		.it_value = { .tv_nsec = period },
		.it_interval = { .tv_nsec = period },
	};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd >= 0)
		timerfd_settime(fd, 0, &spec, NULL);
	return fd;
}

/* Sleeps a millisecond; returns how late it woke */
static uint64_t one_sleep(void)
{
	const uint64_t length = SECOND / 1000;
	struct timespec time = { .tv_nsec = length };
	uint64_t start = now(CLOCK_MONOTONIC), slept;

	nanosleep(&time, NULL);
	slept = now(CLOCK_MONOTONIC) - start;
	if (slept < length) {
		fail("slept too short (ns)", slept, length);
		return 0;
	}
	return slept - length;
}

/* Reads the clock a thousand times: it must never go back */
static void check_order(uint64_t *last)
{
	unsigned int i;

	for (i = 0; i < 1000; i++) {
		uint64_t time = now(CLOCK_MONOTONIC);

		if (time < *last)
			fail("monotonic clock went back (ns)", *last - time, 0);
		*last = time;
	}
}

static int usage(int status)
{
	fputs("clockcheck [-s SECONDS] [-l MILLISECONDS]\n"
	      "Checks clocks and timers for SECONDS (10). A wake-up more than MILLISECONDS (1000)\n"
	      "late is a failure, and so is a clock that goes back or a timer that miscounts.\n"
	      "Example: clockcheck -s 60 -l 500\n", status ? stderr : stdout);
	return status;
}

int main(int argc, char **argv)
{
	static struct interrupt before[LINES_MAX], after[LINES_MAX];
	const uint64_t period = SECOND / 100;
	uint64_t start, raw_start, elapsed, raw, last = 0, late_bound = SECOND;
	uint64_t sleeps = 0, latest = 0, late_sum = 0, ticks = 0, expired, expected, later;
	unsigned long seconds = 10;
	size_t count_before, count_after;
	int option, fd;

	while ((option = getopt(argc, argv, "s:l:h")) != -1) {
		switch (option) {
		case 's':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'l':
			late_bound = strtoull(optarg, NULL, 0) * (SECOND / 1000);
			break;
		default:
			return usage(option == 'h' ? 0 : 2);
		}
	}
	count_before = read_interrupts(before);
	start = now(CLOCK_MONOTONIC);
	raw_start = now(CLOCK_MONOTONIC_RAW);
	fd = periodic_timer(period);
	if (fd < 0) {
		perror("clockcheck: timerfd");
		return 2;
	}
	while (now(CLOCK_MONOTONIC) - start < seconds * SECOND) {
		uint64_t late = one_sleep();

		sleeps++;
		late_sum += late;
		if (late > latest)
			latest = late;
		if (late > late_bound)
			fail("woke late (ns)", late, late_bound);
		if (read(fd, &expired, sizeof(expired)) == sizeof(expired))
			ticks += expired;
		check_order(&last);
	}
	elapsed = now(CLOCK_MONOTONIC) - start;
	raw = now(CLOCK_MONOTONIC_RAW) - raw_start;
	expected = elapsed / period;
	/* A timer that expires late still counts: wait until it catches up, up to the bound */
	do {
		if (read(fd, &expired, sizeof(expired)) == sizeof(expired))
			ticks += expired;
	} while (ticks + 2 < expected &&
		 now(CLOCK_MONOTONIC) - start < elapsed + late_bound);
	/* The VMM may have paused the VM meanwhile */
	later = now(CLOCK_MONOTONIC) - start;
	count_after = read_interrupts(after);

	/* The periodic timer started a little later, and may tick once more */
	if (ticks + 2 < expected || ticks > later / period + 2)
		fail("periodic timer's count", ticks, expected);
	if (raw > later + later / 50 || elapsed > raw + raw / 50)
		fail("raw clock against monotonic (ns)", raw, elapsed);
	print_interrupts(before, count_before, after, count_after);
	printf("clockcheck: seconds %llu sleeps %llu late_mean_us %llu ",
	       (unsigned long long)(elapsed / SECOND), (unsigned long long)sleeps,
	       (unsigned long long)(sleeps ? late_sum / sleeps / 1000 : 0));
	printf("late_max_us %llu ticks %llu expected %llu failures %u\n",
	       (unsigned long long)(latest / 1000), (unsigned long long)ticks,
	       (unsigned long long)expected, failures);
	return failures || !sleeps;
}
