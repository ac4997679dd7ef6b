// SPDX-License-Identifier: Apache-2.0
/* The reports of `--sandbox log`: what a thread calls that its table does not have. */
#define _GNU_SOURCE
#include "csandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

/* Calls that were reported. More than this many are not. */
#define REPORT_LIMIT 256

static __thread char thread_role[16];
static _Atomic uint64_t reported[REPORT_LIMIT];

/*
 * The only system call instruction that the filter allows whatever it calls. The filter recognizes it by the address after the instruction.
 * Arguments: the number, then six arguments of the call.
 */
long csandbox_reporter_call(long number, long a, long b, long c, long d, long e, long f);
extern const char csandbox_reporter_after[];
__asm__(".text\n"
	".globl csandbox_reporter_call\n"
	".type csandbox_reporter_call, @function\n"
	"csandbox_reporter_call:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	".globl csandbox_reporter_after\n"
	"csandbox_reporter_after:\n"
	"	ret\n"
	".size csandbox_reporter_call, . - csandbox_reporter_call\n");

uint64_t csandbox_reporter_address(void)
{
	return (uint64_t)(uintptr_t)csandbox_reporter_after;
}

void csandbox_set_role(const char *role)
{
	strncpy(thread_role, role, sizeof(thread_role) - 1);
}

/* A line without allocation or locks: a signal handler must not use stdio. */
struct line {
	char text[256];
	size_t length;
};

static void add(struct line *line, const char *text)
{
	while (*text && line->length < sizeof(line->text) - 1)
		line->text[line->length++] = *text++;
}

static void add_number(struct line *line, uint64_t number, unsigned int base)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;

	digits[at] = 0;
	do {
		digits[--at] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	add(line, base == 16 ? "0x" : "");
	add(line, digits + at);
}

/* True the first time that a role makes this call. The requests of ioctl and fcntl, and the protection of memory, distinguish calls. */
static bool is_first(const char *role, long number, const greg_t *registers)
{
	uint64_t argument = 0;
	uint64_t key = 1469598103934665603u;

	if (number == SYS_ioctl || number == SYS_fcntl)
		argument = (uint64_t)registers[REG_RSI];
	if (number == SYS_mmap || number == SYS_mprotect)
		argument = (uint64_t)registers[REG_RDX];
	for (; *role; role++)
		key = (key ^ (unsigned char)*role) * 1099511628211u;
	key = (key ^ (uint64_t)number) * 1099511628211u;
	key = (key ^ argument) * 1099511628211u;
	key |= 1;
	for (size_t index = 0; index < REPORT_LIMIT; index++) {
		uint64_t seen = atomic_load(&reported[index]);

		if (seen == 0 && atomic_compare_exchange_strong(&reported[index], &seen, key))
			return true;
		if (seen == key)
			return false;
	}
	return false;
}

static void report(const char *role, long number, const greg_t *registers)
{
	static const int order[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
	const char *name = csandbox_call_name(number);
	struct line line = {.length = 0};
	char thread[16] = "";

	csandbox_reporter_call(SYS_prctl, PR_GET_NAME, (long)thread, 0, 0, 0, 0);
	add(&line, "symvmm: sandbox: thread '");
	add(&line, thread);
	add(&line, "' (role ");
	add(&line, role);
	add(&line, ") calls ");
	add(&line, name ? name : "unknown");
	add(&line, " (number ");
	add_number(&line, (uint64_t)number, 10);
	add(&line, "), which its table does not allow:");
	for (size_t index = 0; index < 6; index++) {
		add(&line, " ");
		add_number(&line, (uint64_t)registers[order[index]], 16);
	}
	add(&line, "\n");
	csandbox_reporter_call(SYS_write, 2, (long)line.text, (long)line.length, 0, 0, 0);
}

static void handle(int signal, siginfo_t *information, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	long number = information->si_syscall;

	(void)signal;
	if (is_first(thread_role, number, registers))
		report(thread_role, number, registers);
	registers[REG_RAX] = csandbox_reporter_call(
		number, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX], registers[REG_R10], registers[REG_R8], registers[REG_R9]);
}

int csandbox_report_calls(void)
{
	struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}
