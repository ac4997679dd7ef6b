// SPDX-License-Identifier: GPL-2.0
/*
 * Leaves the guest by exactly count=N OUTs to a port with no device, blocks=N
 * times over (once, when not told; 1024 times at most). With report=1, says at
 * the end on the serial port how many ticks of the time stamp counter each
 * block took, "ticks HEX": not in between, where a VMM that sends its output by
 * another thread would be disturbed by it.
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
