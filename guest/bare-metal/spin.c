// SPDX-License-Identifier: GPL-2.0
/* Spins with interrupts off and causes no exit. */
#include "bare-metal.h"

void guest(void)
{
	for (;;)
		asm volatile("pause");
}
