// SPDX-License-Identifier: GPL-2.0
/*
 * outcount: executes a known number of OUT instructions to a port in user
 * mode. The VMM's count for that port must grow by exactly this number.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static int usage(int status)
{
	fputs("outcount PORT COUNT [VALUE]\n"
	      "Writes VALUE (a byte; default: a running count) COUNT times to PORT.\n"
	      "Example: outcount 0x80 100000\n", status ? stderr : stdout);
	return status;
}

/* The loop counts in a register, so a repeated or skipped OUT changes the total */
static uint64_t out_many(uint16_t port, uint64_t count, long value)
{
	uint64_t done = 0;

	while (done < count) {
		uint8_t byte = value < 0 ? done : (uint64_t)value;

		asm volatile("outb %%al, %%dx" : : "a" (byte), "d" (port) : "memory");
		done++;
	}
	return done;
}

int main(int argc, char **argv)
{
	unsigned long long count;
	unsigned long port;
	uint64_t start, done, time;
	long value = -1;
	char *end;

	if (argc == 2 && !strcmp(argv[1], "--help"))
		return usage(0);
	if (argc < 3 || argc > 4)
		return usage(2);
	port = strtoul(argv[1], &end, 0);
	if (*end || port > 0xffff)
		return usage(2);
	count = strtoull(argv[2], &end, 0);
	if (*end)
		return usage(2);
	if (argc == 4) {
		value = strtol(argv[3], &end, 0);
		if (*end || value < 0 || value > 0xff)
			return usage(2);
	}
	if (ioperm(port, 1, 1)) {
		fprintf(stderr, "outcount: no access to port 0x%lx: %s\n", port,
			strerror(errno));
		return 2;
	}
	start = now();
	done = out_many(port, count, value);
	time = now() - start;
	printf("outcount: port 0x%lx outs %llu ns %llu ns_each %llu\n", port,
	       (unsigned long long)done, (unsigned long long)time,
	       (unsigned long long)(done ? time / done : 0));
	return done != count;
}
