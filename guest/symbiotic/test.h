/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Test build: shared declarations.
 *
 *   test.c           the debugfs file
 *   test_commands.c  its commands
 *   test_symcalls.c  symcalls whose handlers are faulty on purpose
 */
#ifndef SYMBIOTIC_TEST_H
#define SYMBIOTIC_TEST_H

#include "symbiotic.h"

/* Canonical, in the kernel's half, and not mapped by any kernel */
#define UNMAPPED	0xffffe12345678000ULL
#define NON_CANONICAL	0x8000000000000000ULL

static __always_inline void test_out(u16 port)
{
	asm volatile("outb %%al, %%dx" : : "a" (0), "d" (port) : "memory");
}

/* Runs on one vCPU, in process context; returns 0 or an error */
struct test_command {
	const char *name;
	int (*run)(u64 number);
};

/* test_commands.c */
const struct test_command *test_find_command(const char *name);
/* Ticks of the time stamp counter that the latest time_ command took */
extern u64 test_ticks;

/* test_symcalls.c */
void symbiotic_add_test_symcalls(void);
u64 test_scribble(struct symbiotic_registers *regs);
u64 test_endless_tasks(struct symbiotic_registers *regs);
u64 test_endless_log(struct symbiotic_registers *regs);

#endif /* SYMBIOTIC_TEST_H */
