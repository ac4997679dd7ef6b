// SPDX-License-Identifier: Apache-2.0
/*
 * A VMM that makes symcalls with plain ioctls, to show what KVM_CAP_SYNC_REGS saves. It runs guest/bare-metal's symcall.elf. In the exit of
 * each doorbell DOORBELL_TEST it makes one PING: it finishes the exit by a KVM_RUN that returns at once, reads registers, special registers,
 * events and MP state, sets the handler's, runs the handler to its return port, finishes that exit, reads the results, and restores everything.
 * The guest is trusted: this program checks only what it relies on itself.
 *
 *     symcall-ioctls symcall.elf [COMMAND LINE]
 */
#include "tiny-machine.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../../guest/include/symbiotic_abi.h"

enum { MSR_COUNT = SYMBIOTIC_MSR_FS_BASE - SYMBIOTIC_MSR_BASE + 1 };

static const struct kvm_cpuid_entry2 leaves[] = {
	{.function = SYMBIOTIC_CPUID_SIGNATURE, .eax = SYMBIOTIC_CPUID_FEATURES, .ebx = SYMBIOTIC_SIGNATURE_EBX,
	 .ecx = SYMBIOTIC_SIGNATURE_ECX, .edx = SYMBIOTIC_SIGNATURE_EDX},
	{.function = SYMBIOTIC_CPUID_FEATURES, .eax = SYMBIOTIC_ABI_VERSION, .ebx = SYMBIOTIC_FEATURE_SYMSPY | SYMBIOTIC_FEATURE_SYMCALL,
	 .ecx = SYMBIOTIC_MSR_BASE, .edx = SYMBIOTIC_CPUID_PORTS},
};

struct state {
	struct kvm_regs registers;
	struct kvm_sregs special;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
};

static struct tiny_machine machine;
static uint64_t msrs[MSR_COUNT];

static uint64_t msr(uint32_t index)
{
	return msrs[index - SYMBIOTIC_MSR_BASE];
}

static void take_msrs(void)
{
	static uint8_t bitmap[(MSR_COUNT + 7) / 8];
	struct kvm_enable_cap capability = {.cap = KVM_CAP_X86_USER_SPACE_MSR, .args = {KVM_MSR_EXIT_REASON_FILTER}};
	struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};

	filter.ranges[0] = (struct kvm_msr_filter_range){
		.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = SYMBIOTIC_MSR_BASE, .nmsrs = MSR_COUNT, .bitmap = bitmap,
	};
	CALL(machine.vm, KVM_ENABLE_CAP, &capability);
	CALL(machine.vm, KVM_X86_SET_MSR_FILTER, &filter);
}

/* Completes the instruction that caused the exit, and executes no other. */
static void finish_exit(void)
{
	machine.page->immediate_exit = 1;
	if (ioctl(machine.vcpu, KVM_RUN, 0) != -1 || errno != EINTR)
		errx(1, "the exit can't be finished");
	machine.page->immediate_exit = 0;
}

static void get_state(struct state *state)
{
	CALL(machine.vcpu, KVM_GET_REGS, &state->registers);
	CALL(machine.vcpu, KVM_GET_SREGS, &state->special);
	CALL(machine.vcpu, KVM_GET_VCPU_EVENTS, &state->events);
	CALL(machine.vcpu, KVM_GET_MP_STATE, &state->mp);
}

/* Leaves NMIs and SIPIs that arrived meanwhile, and SMM, as they are. */
static void set_state(struct state *state)
{
	state->events.flags &= ~(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SMM);
	state->events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	CALL(machine.vcpu, KVM_SET_REGS, &state->registers);
	CALL(machine.vcpu, KVM_SET_SREGS, &state->special);
	CALL(machine.vcpu, KVM_SET_VCPU_EVENTS, &state->events);
	CALL(machine.vcpu, KVM_SET_MP_STATE, &state->mp);
}

/* The state in which a handler starts (docs/ABI.md, 4.1), with the doorbell's arguments. */
static struct state handler_state(const struct state *saved)
{
	struct state state = *saved;
	uint16_t selector = msr(SYMBIOTIC_MSR_CS);

	state.registers.rax = SYMBIOTIC_SYMCALL_PING;
	state.registers.rip = msr(SYMBIOTIC_MSR_RIP);
	state.registers.rsp = msr(SYMBIOTIC_MSR_RSP);
	state.registers.rflags = SYMBIOTIC_RFLAGS;
	state.special.cs = (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	state.special.ss = (struct kvm_segment){.limit = 0xffffffff, .selector = selector + 8, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
	state.special.gs.base = msr(SYMBIOTIC_MSR_GS_BASE);
	state.special.fs.base = msr(SYMBIOTIC_MSR_FS_BASE);
	state.special.cr3 &= ~msr(SYMBIOTIC_MSR_CR3_CLEAR);
	state.special.idt.base = msr(SYMBIOTIC_MSR_IDT);
	state.special.idt.limit = SYMBIOTIC_IDT_LIMIT;
	state.events.interrupt.shadow = 0;
	state.events.nmi.masked = 1;
	state.mp.mp_state = KVM_MP_STATE_RUNNABLE;
	return state;
}

static void count_completed(void)
{
	uint64_t at = msr(SYMBIOTIC_MSR_LOCAL_PAGE);

	if (at == 0 || at > MEMORY_SIZE - sizeof(struct symbiotic_local_page))
		errx(1, "the guest has no local page");
	((struct symbiotic_local_page *)(machine.memory + at))->completed++;
}

static void symcall(void)
{
	struct state saved, handler;
	struct kvm_regs results;

	finish_exit();
	get_state(&saved);
	if (saved.events.exception.injected || saved.events.interrupt.injected || saved.events.nmi.injected)
		errx(1, "an event is being injected");
	handler = handler_state(&saved);
	set_state(&handler);
	CALL(machine.vcpu, KVM_RUN, 0);
	if (machine.page->exit_reason != KVM_EXIT_IO || machine.page->io.port != SYMBIOTIC_PORT_RETURN)
		errx(1, "the handler did not return: exit reason %u", machine.page->exit_reason);
	finish_exit();
	CALL(machine.vcpu, KVM_GET_REGS, &results);
	if (results.rax != 0 || results.rbx != saved.registers.rbx || results.rdi != saved.registers.rdi)
		errx(1, "the handler's answer is wrong");
	set_state(&saved);
	count_completed();
}

/* Returns false when the guest resets the machine. */
static int answer_port(struct kvm_run *page)
{
	uint8_t value = ((uint8_t *)page)[page->io.data_offset];

	switch (page->io.port) {
	case PORT_SERIAL:
		putchar(value);
		break;
	case SYMBIOTIC_PORT_DOORBELL:
		if (value == SYMBIOTIC_DOORBELL_TEST && msr(SYMBIOTIC_MSR_RIP) != 0)
			symcall();
		break;
	case PORT_KEYBOARD:
		return 0;
	}
	return 1;
}

static void run(struct kvm_run *page)
{
	for (;;) {
		CALL(machine.vcpu, KVM_RUN, 0);
		switch (page->exit_reason) {
		case KVM_EXIT_IO:
			if (!answer_port(page))
				return;
			break;
		case KVM_EXIT_X86_RDMSR:
			page->msr.data = msr(page->msr.index);
			break;
		case KVM_EXIT_X86_WRMSR:
			msrs[page->msr.index - SYMBIOTIC_MSR_BASE] = page->msr.data;
			break;
		default:
			errx(1, "exit reason %u", page->exit_reason);
		}
	}
}

int main(int count, char **words)
{
	if (count < 2)
		errx(2, "usage: symcall-ioctls symcall.elf [COMMAND LINE]");
	machine = make_machine(words[1], count > 2 ? words[2] : "", leaves, sizeof(leaves) / sizeof(*leaves));
	take_msrs();
	run(machine.page);
	return 0;
}
