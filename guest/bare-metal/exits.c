// SPDX-License-Identifier: GPL-2.0
/*
 * Causes exactly count=N exits by OUTs to a port with no device, blocks=N times
 * (default 1, at most 1024). With report=1, it prints at the end on the serial
 * port how many ticks of the time stamp counter each block took, "ticks HEX".
 * It doesn't print between the blocks, as that would disturb a VMM that sends
 * its output by another thread.
 */
#include "bare-metal.h"

#define MOST_BLOCKS 1024

static __u64 spent[MOST_BLOCKS];

static __u64 measure(__u64 count)
{
	__u64 started = ticks();

	OUTS(PORT_NOTHING, 0, count);
	return ticks() - started;
}

void guest(void)
{
	__u64 count = option("count=", 0), blocks = option("blocks=", 1);
	__u64 report = option("report=", 0), i;

	if (blocks > MOST_BLOCKS)
		blocks = MOST_BLOCKS;
	for (i = 0; i < blocks; i++)
		spent[i] = measure(count);
	for (i = 0; report && i < blocks; i++) {
		print("ticks ");
		print_number(spent[i]);
		print("\n");
	}
}
