// SPDX-License-Identifier: GPL-2.0
/*
 * Leaves the guest by exactly count=N OUTs to a port with no device, blocks=N
 * times over (once, when not told). With report=1, says after each block on
 * the serial port how many ticks of the time stamp counter it took:
 * "ticks HEX".
 */
#include "bare-metal.h"

static __u64 measure(__u64 count)
{
	__u64 started = ticks();

	OUTS(PORT_NOTHING, 0, count);
	return ticks() - started;
}

void guest(void)
{
	__u64 count = option("count=", 0), blocks = option("blocks=", 1);
	__u64 report = option("report=", 0), spent;

	for (; blocks != 0; blocks--) {
		spent = measure(count);
		if (!report)
			continue;
		print("ticks ");
		print_number(spent);
		print("\n");
	}
}
