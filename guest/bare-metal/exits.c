// SPDX-License-Identifier: GPL-2.0
/*
 * Leaves the guest by exactly count=N OUTs to a port with no device. With
 * report=1, says afterwards on the serial port how many ticks of the time
 * stamp counter they took: "ticks HEX".
 */
#include "bare-metal.h"

void guest(void)
{
	__u64 count = option("count=", 0), started, ended;

	started = ticks();
	OUTS(PORT_NOTHING, 0, count);
	ended = ticks();
	if (option("report=", 0)) {
		print("ticks ");
		print_number(ended - started);
		print("\n");
	}
}
