// SPDX-License-Identifier: GPL-2.0
/*
 * Misbehaviour on purpose, for tests of the VMM: built with SYMBIOTIC_TEST=1
 * only. The VMM and its other VMs have to survive all of it; this guest may not.
 *
 *   symcalls 0x1e0-0x1e9                 see docs/ABI.md
 *   echo "COMMAND [CPU [NUMBER]]" > /sys/kernel/debug/symbiotic/test
 *   cat /sys/kernel/debug/symbiotic/test what became of it
 *
 * time_outs and time_doorbells misbehave in nothing: they are for benchmarks.
 */
#define pr_fmt(fmt) "symbiotic: " fmt

#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <asm/msr.h>

#include "symbiotic.h"

#define OUTS_MAX	BIT_ULL(20)
#define TIMED_MAX	BIT_ULL(16)
#define UNTIMED_OUTS	64
/* A port with no device behind it */
#define PORT_NOTHING	0x80
#define NON_CANONICAL	0x8000000000000000ULL
/* Canonical, in the kernel's half, in no kernel's layout mapped */
#define UNMAPPED	0xffffe12345678000ULL

/* ---- Symcalls -------------------------------------------------------------- */

static noinstr u64 spin(struct symbiotic_registers *regs)
{
	for (;;)
		asm volatile("pause");
	return SYMBIOTIC_OK;
}

static noinstr u64 invalid_opcode(struct symbiotic_registers *regs)
{
	/* Never jumps; without a jump the build takes the rest for unreachable */
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

static __always_inline void out(u16 port)
{
	asm volatile("outb %%al, %%dx" : : "a" (0), "d" (port) : "memory");
}

static noinstr u64 ring(struct symbiotic_registers *regs)
{
	out(SYMBIOTIC_PORT_DOORBELL);
	regs->rbx++;
	return SYMBIOTIC_OK;
}

/* Deep enough for any stack; the sum keeps it from becoming a loop */
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

static noinstr u64 scribble(struct symbiotic_registers *regs)
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
		out(regs->rcx);
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
	/* The VMM has put us out of existence at the first one */
	out(SYMBIOTIC_PORT_RETURN);
	out(SYMBIOTIC_PORT_RETURN);
	out(SYMBIOTIC_PORT_FAIL);
	return SYMBIOTIC_OK;
}

/* TASKS with always another page of them; what is in the records, nobody knows */
static noinstr u64 endless_tasks(struct symbiotic_registers *regs)
{
	regs->rbx = regs->rcx / sizeof(struct symbiotic_task_record);
	regs->rcx = regs->rbx * sizeof(struct symbiotic_task_record);
	regs->rdx++;
	regs->rsi = sizeof(struct symbiotic_task_record);
	return SYMBIOTIC_OK;
}

/* LOG with always an older message, of no length */
static noinstr u64 endless_log(struct symbiotic_registers *regs)
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
	{ SYMBIOTIC_SYMCALL_TEST_SCRIBBLE, scribble },
	{ SYMBIOTIC_SYMCALL_TEST_OUTS, outs },
	{ SYMBIOTIC_SYMCALL_TEST_BURN, burn },
	{ SYMBIOTIC_SYMCALL_TEST_TWICE, return_twice },
};

/* ---- Commands: on one vCPU, in process context ------------------------------- */

static int stray_return(u64 number)
{
	out(SYMBIOTIC_PORT_RETURN);
	return 0;
}

static int stray_fail(u64 number)
{
	out(SYMBIOTIC_PORT_FAIL);
	return 0;
}

static int doorbells(u64 number)
{
	while (number--)
		symbiotic_doorbell(SYMBIOTIC_DOORBELL_TEST, number, 0, 0, 0, 0);
	return 0;
}

/* To a port without a device: how many, the VMM counts */
static int port_outs(u64 number)
{
	while (number--)
		out(0x505);
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
	err = symbiotic_add_symcall(SYMBIOTIC_SYMCALL_TASKS, endless_tasks);
	return err ? err : symbiotic_add_symcall(SYMBIOTIC_SYMCALL_LOG, endless_log);
}

static int scribble_pages(u64 number)
{
	struct symbiotic_registers regs = { .rbx = number };

	return scribble(&regs);
}

/* Arms again with one register replaced, as a module with a fault would */
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

static int wild_gate(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_GATE, NON_CANONICAL);
}

static int user_gate(u64 number)
{
	return arm_with(SYMBIOTIC_MSR_GATE, 0x400000);
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

/* NUMBER is a GPA: outside memory, in a device, in the window, ... */
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

/* Moves the buffer of the global page to GPA NUMBER */
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

/* Says that each number is there and may be injected */
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

/* What the newest of the commands below took, by the time stamp counter */
static u64 ticks;

/* NUMBER OUTs that mean nothing to anybody */
static int time_outs(u64 number)
{
	unsigned long flags;
	u64 started, i;

	if (number > TIMED_MAX)
		return -EINVAL;
	local_irq_save(flags);
	/* A VMM may do more in the exits after a symcall than in others */
	for (i = 0; i < UNTIMED_OUTS; i++)
		out(PORT_NOTHING);
	started = rdtsc_ordered();
	for (i = 0; i < number; i++)
		out(PORT_NOTHING);
	WRITE_ONCE(ticks, rdtsc_ordered() - started);
	local_irq_restore(flags);
	return 0;
}

/* NUMBER doorbells, in whose exits the VMM makes a PING if it was told so */
static int time_doorbells(u64 number)
{
	unsigned long flags;
	u64 started;

	if (number > TIMED_MAX)
		return -EINVAL;
	local_irq_save(flags);
	started = rdtsc_ordered();
	doorbells(number);
	WRITE_ONCE(ticks, rdtsc_ordered() - started);
	local_irq_restore(flags);
	return 0;
}

#define COMMAND(name) { #name, name }

static const struct command {
	const char *name;
	int (*run)(u64 number);
} commands[] = {
	COMMAND(stray_return), COMMAND(stray_fail), COMMAND(doorbells),
	{ "outs", port_outs },
	COMMAND(serve), COMMAND(any_doorbell), COMMAND(endless),
	COMMAND(scribble_pages),
	COMMAND(rearm), COMMAND(bad_rip), COMMAND(bad_rsp), COMMAND(wild_rip),
	COMMAND(user_rip), COMMAND(wild_gs), COMMAND(wild_idt),
	COMMAND(wild_gate), COMMAND(user_gate),
	COMMAND(wild_cr3), COMMAND(bad_cs), COMMAND(unaligned_rsp),
	COMMAND(unaligned_page), COMMAND(page), COMMAND(rsp_while_armed),
	COMMAND(second_global), COMMAND(buffer), COMMAND(buffer_size),
	COMMAND(all_symcalls), COMMAND(odd_sequence), COMMAND(interrupts_off),
	COMMAND(time_outs), COMMAND(time_doorbells),
};

struct order {
	const struct command *command;
	u64 number;
};

static DEFINE_MUTEX(last_lock);
static char last[80] = "nothing yet";

static int run_order(void *data)
{
	struct order *order = data;

	return order->command->run(order->number);
}

static ssize_t test_write(struct file *file, const char __user *from,
			  size_t length, loff_t *offset)
{
	char text[64], name[32];
	unsigned int cpu = 0;
	struct order order = { };
	int err, used;
	size_t i;

	if (length >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, length))
		return -EFAULT;
	text[length] = '\0';
	if (sscanf(text, "%31s %u %lli", name, &cpu, (s64 *)&order.number) < 1)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(name, commands[i].name))
			order.command = &commands[i];
	if (!order.command || cpu >= nr_cpu_ids)
		return -EINVAL;
	WRITE_ONCE(ticks, 0);
	err = smp_call_on_cpu(cpu, run_order, &order, false);
	mutex_lock(&last_lock);
	used = scnprintf(last, sizeof(last), "%s: %s (%d)", name,
			 err ? "refused" : "accepted", err);
	if (READ_ONCE(ticks))
		scnprintf(last + used, sizeof(last) - used, ": %llu ticks",
			  READ_ONCE(ticks));
	mutex_unlock(&last_lock);
	return length;
}

static int test_show(struct seq_file *file, void *unused)
{
	mutex_lock(&last_lock);
	seq_printf(file, "%s\n", last);
	mutex_unlock(&last_lock);
	return 0;
}

static int test_open(struct inode *inode, struct file *file)
{
	return single_open(file, test_show, NULL);
}

static const struct file_operations test_file = {
	.owner = THIS_MODULE,
	.open = test_open,
	.read = seq_read,
	.write = test_write,
	.llseek = seq_lseek,
	.release = single_release,
};

void symbiotic_start_test(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		if (symbiotic_add_symcall(calls[i].number, calls[i].handler))
			pr_err("test symcall 0x%x is not there\n", calls[i].number);
	debugfs_create_file("test", 0600, symbiotic_debugfs(), NULL, &test_file);
	pr_notice("test build: misbehaves when told to\n");
}

void symbiotic_stop_test(void)
{
	/* The calls go with the vCPUs' registration, the file with its folder */
}
