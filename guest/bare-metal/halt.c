// SPDX-License-Identifier: GPL-2.0
/* Halts with interrupts off, so that it never resumes. */
#include "bare-metal.h"

void guest(void)
{
	for (;;)
		asm volatile("hlt");
}
