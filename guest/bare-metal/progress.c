// SPDX-License-Identifier: GPL-2.0
/*
 * Reports the progress of a job by doorbells to the service in
 * examples/GuestProgress: count=N items, and a report for each.
 */
#include "bare-metal.h"

#include <symbiotic_abi.h>

#define DOORBELL_PROGRESS 0x40

static void report(__u64 done, __u64 total)
{
	asm volatile("outb %%al, %3"
		     : : "a"((__u8)DOORBELL_PROGRESS), "b"(total), "c"(done),
			 "N"(SYMBIOTIC_PORT_DOORBELL) : "memory");
}

void guest(void)
{
	__u64 count = option("count=", 10), done;

	for (done = 1; done <= count; done++)
		report(done, count);
}
