// SPDX-License-Identifier: GPL-2.0
/*
 * Test build: the commands of the debugfs file (docs/ABI.md, section 8). Each
 * runs on one vCPU, in process context.
 */
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/string.h>

#include <asm/msr.h>

#include "symbiotic.h"
#include "test.h"

#define TIMED_MAX	BIT_ULL(16)
#define UNTIMED_OUTS	64
/* A port without a device */
#define PORT_NOTHING	0x80

static int stray_return(u64 number)
{
	test_out(SYMBIOTIC_PORT_RETURN);
	return 0;
}

static int stray_fail(u64 number)
{
	test_out(SYMBIOTIC_PORT_FAIL);
	return 0;
}

static int doorbells(u64 number)
{
	while (number--)
		symbiotic_doorbell(SYMBIOTIC_DOORBELL_TEST, number, 0, 0, 0, 0);
	return 0;
}

/* OUTs to a port without a device, which the VMM counts */
static int port_outs(u64 number)
{
	while (number--)
		test_out(0x505);
	return 0;
}

static int serve(u64 number)
{
	symbiotic_doorbell(SYMBIOTIC_DOORBELL_SERVE, 0, 0, 0, 0, 0);
	return 0;
}

static int any_doorbell(u64 number)
{
	symbiotic_doorbell(number, ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL);
	return 0;
}

static int endless(u64 number)
{
	int err;

	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_TASKS);
	symbiotic_remove_symcall(SYMBIOTIC_SYMCALL_LOG);
	err = symbiotic_add_symcall(SYMBIOTIC_SYMCALL_TASKS, test_endless_tasks);
	return err ? err : symbiotic_add_symcall(SYMBIOTIC_SYMCALL_LOG,
						 test_endless_log);
}

static int scribble_pages(u64 number)
{
	struct symbiotic_registers regs = { .rbx = number };

	return test_scribble(&regs);
}

/* Arms again with one MSR replaced */
static int arm_with(u32 msr, u64 value)
{
	int err;

	err = symbiotic_disarm();
	if (!err)
		err = symbiotic_arm();
	if (!err)
		err = wrmsrl_safe(SYMBIOTIC_MSR_RIP, 0);
	if (!err)
		err = wrmsrl_safe(msr, value);
	if (!err && msr != SYMBIOTIC_MSR_RIP)
		err = wrmsrl_safe(SYMBIOTIC_MSR_RIP, (unsigned long)symbiotic_entry);
	return err;
}

static int rearm(u64 number)
{
	int err = symbiotic_disarm();

	return err ? err : symbiotic_arm();
}

static int bad_rip(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_RIP, UNMAPPED);
}

static int bad_rsp(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_RSP, UNMAPPED);
}

static int wild_rip(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_RIP, NON_CANONICAL);
}

static int user_rip(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_RIP, 0x400000);
}

static int wild_gs(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_GS_BASE, NON_CANONICAL);
}

static int wild_idt(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_IDT, NON_CANONICAL);
}

static int wild_fast_doorbell(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_FAST_DOORBELL, NON_CANONICAL);
}

static int user_fast_doorbell(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_FAST_DOORBELL, 0x400000);
}

static int wild_cr3(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_CR3_CLEAR, ~0ULL);
}

static int bad_cs(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_CS, 0xffff);
}

static int unaligned_rsp(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_RSP, UNMAPPED + 8);
}

static int unaligned_page(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_LOCAL_PAGE,
			virt_to_phys(this_cpu_ptr(&symbiotic_cpu)->local) + 8);
}

/* NUMBER is a GPA, for example one outside RAM */
static int page(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_LOCAL_PAGE, number);
}

static int rsp_while_armed(u64 number)
{
	return wrmsrl_safe(SYMBIOTIC_MSR_RSP, UNMAPPED);
}

static int second_global(u64 number)
{
	return wrmsrl_safe(SYMBIOTIC_MSR_GLOBAL_PAGE, virt_to_phys(symbiotic_buffer));
}

/* Sets the shared buffer's GPA to NUMBER */
static int buffer(u64 number)
{
	WRITE_ONCE(symbiotic_global->buffer_gpa, number);
	return 0;
}

static int buffer_size(u64 number)
{
	WRITE_ONCE(symbiotic_global->buffer_size, number);
	return 0;
}

/* Claims that all symcalls exist and are direct */
static int all_symcalls(u64 number)
{
	memset(symbiotic_global->symcalls, 0xff, sizeof(symbiotic_global->symcalls));
	memset(symbiotic_global->direct, 0xff, sizeof(symbiotic_global->direct));
	return 0;
}

static int odd_sequence(u64 number)
{
	this_cpu_ptr(&symbiotic_cpu)->local->sequence |= 1;
	return 0;
}

static int interrupts_off(u64 number)
{
	unsigned long flags;
	u64 i;

	local_irq_save(flags);
	for (i = 0; i < number; i++)
		asm volatile("pause");
	local_irq_restore(flags);
	return 0;
}

/* ---- For benchmarks ---------------------------------------------------------- */

u64 test_ticks;

/* NUMBER OUTs to a port without a device */
static int time_outs(u64 number)
{
	unsigned long flags;
	u64 started, i;

	if (number > TIMED_MAX)
		return -EINVAL;
	local_irq_save(flags);
	/* The VMM may take longer for the exits after a symcall */
	for (i = 0; i < UNTIMED_OUTS; i++)
		test_out(PORT_NOTHING);
	started = rdtsc_ordered();
	for (i = 0; i < number; i++)
		test_out(PORT_NOTHING);
	WRITE_ONCE(test_ticks, rdtsc_ordered() - started);
	local_irq_restore(flags);
	return 0;
}

/* NUMBER doorbells. If configured, the VMM makes a PING in each. */
static int time_doorbells(u64 number)
{
	unsigned long flags;
	u64 started;

	if (number > TIMED_MAX)
		return -EINVAL;
	local_irq_save(flags);
	started = rdtsc_ordered();
	doorbells(number);
	WRITE_ONCE(test_ticks, rdtsc_ordered() - started);
	local_irq_restore(flags);
	return 0;
}

/* ---- The table ---------------------------------------------------------------- */

#define COMMAND(name) { #name, name }

static const struct test_command commands[] = {
	COMMAND(stray_return), COMMAND(stray_fail), COMMAND(doorbells),
	{ "outs", port_outs },
	COMMAND(serve), COMMAND(any_doorbell), COMMAND(endless),
	COMMAND(scribble_pages),
	COMMAND(rearm), COMMAND(bad_rip), COMMAND(bad_rsp), COMMAND(wild_rip),
	COMMAND(user_rip), COMMAND(wild_gs), COMMAND(wild_idt),
	COMMAND(wild_fast_doorbell), COMMAND(user_fast_doorbell),
	COMMAND(wild_cr3), COMMAND(bad_cs), COMMAND(unaligned_rsp),
	COMMAND(unaligned_page), COMMAND(page), COMMAND(rsp_while_armed),
	COMMAND(second_global), COMMAND(buffer), COMMAND(buffer_size),
	COMMAND(all_symcalls), COMMAND(odd_sequence), COMMAND(interrupts_off),
	COMMAND(time_outs), COMMAND(time_doorbells),
};

const struct test_command *test_find_command(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}
