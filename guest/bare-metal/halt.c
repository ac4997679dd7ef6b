// SPDX-License-Identifier: GPL-2.0
/* Halts with interrupts off: nothing ever happens in it again. */
#include "bare-metal.h"

void guest(void)
{
	for (;;)
		asm volatile("hlt");
}
