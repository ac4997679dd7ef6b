// SPDX-License-Identifier: Apache-2.0
/*
 * The smallest VMM that runs the tiny guests of guest/bare-metal: the reference for symvmm's run loop. It makes the same
 * machine (interrupt controllers and timer in the kernel, CPUID as KVM supports it, the same entry state) and then only loops over
 * KVM_RUN and a switch over the exit reason. No statistics, no other threads; error messages are perror's.
 *
 *     minimal-vmm GUEST.elf [COMMAND LINE]
 */
#include "tiny-machine.h"

#include <err.h>
#include <stdio.h>
#include <sys/ioctl.h>

/* Returns when the guest resets the machine. */
static void run(int vcpu, struct kvm_run *page)
{
	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0)
			err(1, "KVM_RUN");
		switch (page->exit_reason) {
		case KVM_EXIT_IO:
			switch (page->io.port) {
			case PORT_SERIAL:
				putchar(((uint8_t *)page)[page->io.data_offset]);
				break;
			case PORT_KEYBOARD:
				return;
			}
			break;
		default:
			errx(1, "exit reason %u", page->exit_reason);
		}
	}
}

int main(int count, char **words)
{
	struct tiny_machine machine;

	if (count < 2)
		errx(2, "usage: minimal-vmm GUEST.elf [COMMAND LINE]");
	machine = make_machine(words[1], count > 2 ? words[2] : "", NULL, 0);
	run(machine.vcpu, machine.page);
	return 0;
}
