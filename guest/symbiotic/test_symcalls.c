// SPDX-License-Identifier: GPL-2.0
/*
 * Test build: symcalls 0x1e0-0x1e9, whose handlers are faulty on purpose
 * (docs/ABI.md, section 8).
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/printk.h>

#include "symbiotic.h"
#include "test.h"

#define OUTS_MAX	BIT_ULL(20)

static noinstr u64 spin(struct symbiotic_registers *regs)
{
	for (;;)
		asm volatile("pause");
	return SYMBIOTIC_OK;
}

static noinstr u64 invalid_opcode(struct symbiotic_registers *regs)
{
	/* Never jumps; without the jump objtool reports unreachable code */
	asm volatile("test %%rsp, %%rsp; jz 1f; ud2; 1:" : : : "cc");
	return SYMBIOTIC_OK;
}

static noinstr u64 page_fault(struct symbiotic_registers *regs)
{
	regs->rbx = READ_ONCE(*(u64 *)regs->rbx);
	return SYMBIOTIC_OK;
}

static noinstr u64 protection_fault(struct symbiotic_registers *regs)
{
	regs->rbx = READ_ONCE(*(u64 *)NON_CANONICAL);
	return SYMBIOTIC_OK;
}

static noinstr u64 ring(struct symbiotic_registers *regs)
{
	test_out(SYMBIOTIC_PORT_DOORBELL);
	regs->rbx++;
	return SYMBIOTIC_OK;
}

/* Recursion that overflows any stack; the sum prevents a tail call */
static noinline notrace u64 deeper(u64 levels)
{
	volatile u64 room[16];

	room[levels % 16] = levels;
	return levels ? deeper(levels - 1) + room[levels % 16] : 0;
}

static notrace u64 overflow(struct symbiotic_registers *regs)
{
	regs->rbx = deeper(1 << 20);
	return SYMBIOTIC_OK;
}

static __always_inline u64 noise(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

noinstr u64 test_scribble(struct symbiotic_registers *regs)
{
	u64 *local = (u64 *)__this_cpu_read(symbiotic_cpu.local);
	u64 *global = (u64 *)symbiotic_global;
	u64 state = regs->rbx | 1;
	unsigned int i;

	for (i = 0; i < SYMBIOTIC_PAGE_SIZE / sizeof(u64); i++) {
		WRITE_ONCE(local[i], noise(&state));
		WRITE_ONCE(global[i], noise(&state));
	}
	return SYMBIOTIC_OK;
}

static noinstr u64 outs(struct symbiotic_registers *regs)
{
	u64 i;

	if (regs->rbx > OUTS_MAX || regs->rcx > 0xffff)
		return SYMBIOTIC_E_INVALID;
	for (i = 0; i < regs->rbx; i++)
		test_out(regs->rcx);
	return SYMBIOTIC_OK;
}

static noinstr u64 burn(struct symbiotic_registers *regs)
{
	u64 i;

	for (i = 0; i < regs->rbx; i++)
		asm volatile("");
	return SYMBIOTIC_OK;
}

static noinstr u64 return_twice(struct symbiotic_registers *regs)
{
	/* The VMM must end the handler at the first OUT */
	test_out(SYMBIOTIC_PORT_RETURN);
	test_out(SYMBIOTIC_PORT_RETURN);
	test_out(SYMBIOTIC_PORT_FAIL);
	return SYMBIOTIC_OK;
}

/* TASKS without an end; the records are uninitialized */
noinstr u64 test_endless_tasks(struct symbiotic_registers *regs)
{
	regs->rbx = regs->rcx / sizeof(struct symbiotic_task_record);
	regs->rcx = regs->rbx * sizeof(struct symbiotic_task_record);
	regs->rdx++;
	regs->rsi = sizeof(struct symbiotic_task_record);
	return SYMBIOTIC_OK;
}

/* LOG without an end; the messages are empty */
noinstr u64 test_endless_log(struct symbiotic_registers *regs)
{
	regs->rbx = 0;
	regs->rcx = 0;
	regs->rdx = regs->rdx ? regs->rdx - 1 : BIT_ULL(40);
	return SYMBIOTIC_OK;
}

static const struct {
	unsigned int number;
	symbiotic_handler handler;
} calls[] = {
	{ SYMBIOTIC_SYMCALL_TEST_SPIN, spin },
	{ SYMBIOTIC_SYMCALL_TEST_UD, invalid_opcode },
	{ SYMBIOTIC_SYMCALL_TEST_PF, page_fault },
	{ SYMBIOTIC_SYMCALL_TEST_GP, protection_fault },
	{ SYMBIOTIC_SYMCALL_TEST_DOORBELL, ring },
	{ SYMBIOTIC_SYMCALL_TEST_STACK, overflow },
	{ SYMBIOTIC_SYMCALL_TEST_SCRIBBLE, test_scribble },
	{ SYMBIOTIC_SYMCALL_TEST_OUTS, outs },
	{ SYMBIOTIC_SYMCALL_TEST_BURN, burn },
	{ SYMBIOTIC_SYMCALL_TEST_TWICE, return_twice },
};

void symbiotic_add_test_symcalls(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		if (symbiotic_add_symcall(calls[i].number, calls[i].handler))
			pr_err("cannot add test symcall 0x%x\n", calls[i].number);
}
