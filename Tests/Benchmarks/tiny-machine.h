/* SPDX-License-Identifier: Apache-2.0 */
/* A machine for the tiny guests of guest/bare-metal, like symvmm's, for the benchmarks' VMMs in C. A failure ends the program. */
#ifndef TINY_MACHINE_H
#define TINY_MACHINE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MEMORY_SIZE = 16 << 20,
	PORT_SERIAL = 0x3f8,
	PORT_KEYBOARD = 0x64,
};

struct tiny_machine {
	uint8_t *memory;
	int vm, vcpu;
	struct kvm_run *page;
};

/* An ioctl that must not fail; returns its result. */
int call(int fd, unsigned long request, const char *name, void *argument);
#define CALL(fd, request, argument) call(fd, request, #request, (void *)(uintptr_t)(argument))

/* One vCPU at the guest's entry, with CPUID as KVM supports it and COUNT entries MORE. */
struct tiny_machine make_machine(const char *guest, const char *command_line, const struct kvm_cpuid_entry2 *more, size_t count);

#endif
