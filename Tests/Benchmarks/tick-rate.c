// SPDX-License-Identifier: Apache-2.0
/* Prints the ticks of the time stamp counter in a microsecond, measured over 50 ms of the monotonic clock. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

int main(void)
{
	uint64_t started = nanoseconds(), ticks = __rdtsc(), now;

	do
		now = nanoseconds();
	while (now - started < 50000000);
	printf("%.3f\n", (__rdtsc() - ticks) * 1e3 / (now - started));
	return 0;
}
