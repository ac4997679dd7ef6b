// SPDX-License-Identifier: GPL-2.0
/* A fault without an interrupt descriptor table. */
#include "bare-metal.h"

void guest(void)
{
	struct {
		__u16 limit;
		__u64 base;
	} __attribute__((packed)) nothing = {0, 0};

	asm volatile("lidt %0\n\tud2" : : "m"(nothing));
}
