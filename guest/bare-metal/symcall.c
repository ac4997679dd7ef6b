// SPDX-License-Identifier: GPL-2.0
/*
 * A minimal guest that handles the symcall PING (docs/ABI.md). It measures
 * blocks=N times (1024 at most), and at the end prints for each block a line of
 * four numbers on the serial port, "block HEX HEX HEX HEX": the ticks of the
 * time stamp counter that count=N OUTs took
 *   1. to a port with no device, nothing registered,
 *   2. the same, with this vCPU's shared page registered,
 *   3. to the doorbell, DOORBELL_SERVE, with no symcall waiting,
 *   4. to the doorbell, DOORBELL_TEST, in whose exit the VMM makes a symcall
 *      if it is configured to,
 * and at the end "completed HEX": completed symcalls, by the VMM's count.
 *
 * With spin=1 it then spins, registered and with interrupts off, so that the
 * VMM can inject symcalls.
 */
#include "bare-metal.h"

#include <symbiotic_abi.h>

#define FEATURES	(SYMBIOTIC_FEATURE_SYMSPY | SYMBIOTIC_FEATURE_SYMCALL)
#define CODE_SELECTOR	0x10
/* Maps the first 512 GiB a second time, at the start of the kernel half. */
#define HIGH_HALF	0xffff800000000000ULL
#define HIGH_HALF_ENTRY	256
#define GATES		256
#define MOST_BLOCKS	1024
#define UNCOUNTED	64
#define PRESENT_INTERRUPT_GATE	0x8e00

struct gate {
	__u16 offset_low, selector, flags, offset_middle;
	__u32 offset_high, reserved;
};

static struct symbiotic_global_page global_page __attribute__((aligned(4096)));
static struct symbiotic_local_page local_page __attribute__((aligned(4096)));
static struct gate idt[GATES] __attribute__((aligned(4096)));
static __u64 spent[MOST_BLOCKS][4];
static __u8 handler_stack[4096] __attribute__((aligned(4096)));

/* The handler answers PING: RAX = 0, the other registers unchanged. */
asm("	.text\n"
    "symcall_entry:\n"
    "	xorl	%eax, %eax\n"
    "	outb	%al, $0xe4\n"
    "	hlt\n"
    "symcall_fault:\n"
    "	movl	$7, %eax\n"
    "	outb	%al, $0xe5\n"
    "	hlt\n");
extern const __u8 symcall_entry[], symcall_fault[];

static void wrmsr(__u32 index, __u64 value)
{
	asm volatile("wrmsr" : : "c"(index), "a"((__u32)value), "d"((__u32)(value >> 32)) : "memory");
}

static __u64 high(const void *address)
{
	return (__u64)address + HIGH_HALF;
}

static int is_offered(void)
{
	__u32 a = SYMBIOTIC_CPUID_SIGNATURE, b, c = 0, d;

	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if (b != SYMBIOTIC_SIGNATURE_EBX || c != SYMBIOTIC_SIGNATURE_ECX || d != SYMBIOTIC_SIGNATURE_EDX)
		return 0;
	a = SYMBIOTIC_CPUID_FEATURES;
	c = 0;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return a >> 16 == SYMBIOTIC_ABI_MAJOR && (b & FEATURES) == FEATURES &&
	       c == SYMBIOTIC_MSR_BASE && d == SYMBIOTIC_CPUID_PORTS;
}

static void map_high_half(void)
{
	__u64 *root;

	asm volatile("movq %%cr3, %0" : "=r"(root));
	root[HIGH_HALF_ENTRY] = root[0];
	asm volatile("movq %0, %%cr3" : : "r"(root) : "memory");
}

static void fill_idt(void)
{
	__u64 handler = high(symcall_fault);
	int vector;

	/* Only exceptions, because interrupts are off. */
	for (vector = 0; vector < 32; vector++)
		idt[vector] = (struct gate){
			.offset_low = handler, .selector = CODE_SELECTOR, .flags = PRESENT_INTERRUPT_GATE,
			.offset_middle = handler >> 16, .offset_high = handler >> 32,
		};
}

static void fill_pages(void)
{
	static const char name[SYMBIOTIC_COMM_SIZE] = "bare-metal";
	unsigned int i;

	global_page.magic = SYMBIOTIC_GLOBAL_MAGIC;
	global_page.version = SYMBIOTIC_ABI_VERSION;
	global_page.size = sizeof(global_page);
	global_page.features = FEATURES;
	global_page.armed_vcpus = 1;
	global_page.symcalls[0] = 1ULL << SYMBIOTIC_SYMCALL_PING;
	global_page.direct[0] = 1ULL << SYMBIOTIC_SYMCALL_PING;
	local_page.magic = SYMBIOTIC_LOCAL_MAGIC;
	local_page.version = SYMBIOTIC_ABI_VERSION;
	local_page.size = sizeof(local_page);
	local_page.sequence = 2;
	local_page.task.tgid = 1;
	local_page.task.pid = 1;
	for (i = 0; i < sizeof(name); i++) {
		global_page.release[i] = name[i];
		local_page.task.comm[i] = name[i];
	}
}

static void prepare(void)
{
	map_high_half();
	fill_idt();
	fill_pages();
	wrmsr(SYMBIOTIC_MSR_GLOBAL_PAGE, 0);
	wrmsr(SYMBIOTIC_MSR_GLOBAL_PAGE, (__u64)&global_page);
	wrmsr(SYMBIOTIC_MSR_RSP, high(handler_stack + sizeof(handler_stack)));
	wrmsr(SYMBIOTIC_MSR_CS, CODE_SELECTOR);
	wrmsr(SYMBIOTIC_MSR_GS_BASE, 0);
	wrmsr(SYMBIOTIC_MSR_FS_BASE, 0);
	wrmsr(SYMBIOTIC_MSR_CR3_CLEAR, 0);
	wrmsr(SYMBIOTIC_MSR_IDT, high(idt));
}

static void arm(void)
{
	wrmsr(SYMBIOTIC_MSR_LOCAL_PAGE, (__u64)&local_page);
	wrmsr(SYMBIOTIC_MSR_RIP, high(symcall_entry));
}

static void disarm(void)
{
	wrmsr(SYMBIOTIC_MSR_RIP, 0);
	wrmsr(SYMBIOTIC_MSR_LOCAL_PAGE, 0);
}

static void measure(__u64 count, __u64 *block)
{
	__u64 at[5];
	int i;

	/* Uncounted: a VMM may do more in the exits after a symcall. */
	OUTS(PORT_NOTHING, 0, UNCOUNTED);
	at[0] = ticks();
	OUTS(PORT_NOTHING, 0, count);
	block[0] = ticks() - at[0];
	arm();
	at[1] = ticks();
	OUTS(PORT_NOTHING, 0, count);
	at[2] = ticks();
	OUTS(SYMBIOTIC_PORT_DOORBELL, SYMBIOTIC_DOORBELL_SERVE, count);
	at[3] = ticks();
	OUTS(SYMBIOTIC_PORT_DOORBELL, SYMBIOTIC_DOORBELL_TEST, count);
	at[4] = ticks();
	disarm();
	for (i = 1; i < 4; i++)
		block[i] = at[i + 1] - at[i];
}

static void report(const __u64 *block)
{
	int i;

	print("block");
	for (i = 0; i < 4; i++) {
		print(" ");
		print_number(block[i]);
	}
	print("\n");
}

static void spin(void)
{
	arm();
	print("spinning\n");
	for (;;)
		asm volatile("pause");
}

void guest(void)
{
	__u64 blocks = option("blocks=", 1), count = option("count=", 16), i;

	if (!is_offered()) {
		print("no symbiotic interface\n");
		return;
	}
	prepare();
	if (blocks > MOST_BLOCKS)
		blocks = MOST_BLOCKS;
	for (i = 0; i < blocks; i++)
		measure(count, spent[i]);
	for (i = 0; i < blocks; i++)
		report(spent[i]);
	print("completed ");
	print_number(local_page.completed);
	print("\n");
	if (option("spin=", 0))
		spin();
	wrmsr(SYMBIOTIC_MSR_GLOBAL_PAGE, 0);
}
