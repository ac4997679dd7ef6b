// SPDX-License-Identifier: Apache-2.0
#include "ckvm_state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "result.h"

/* kvm_msr_list ends in a flexible array. A kernel with more MSRs than this fails the ioctl with E2BIG. */
#define MSR_LIST_ROOM 1024
union msr_list_room {
	struct kvm_msr_list head;
	unsigned char bytes[sizeof(struct kvm_msr_list) + MSR_LIST_ROOM * sizeof(uint32_t)];
};

int ckvm_get_msr_index_list(int kvm, uint32_t *indices, uint32_t capacity)
{
	union msr_list_room room = {.head = {.nmsrs = MSR_LIST_ROOM}};

	if (ioctl(kvm, KVM_GET_MSR_INDEX_LIST, &room.head) < 0)
		return -errno;
	if (room.head.nmsrs > capacity)
		return -E2BIG;
	memcpy(indices, room.head.indices, room.head.nmsrs * sizeof(*indices));
	return (int)room.head.nmsrs;
}

union msrs_room {
	struct kvm_msrs head;
	unsigned char bytes[sizeof(struct kvm_msrs) + CKVM_MSRS_PER_CALL * sizeof(struct kvm_msr_entry)];
};

int ckvm_get_msrs(int vcpu, struct kvm_msr_entry *entries, uint32_t count)
{
	union msrs_room room = {.head = {.nmsrs = count}};
	int done;

	if (count > CKVM_MSRS_PER_CALL)
		return -E2BIG;
	memcpy(room.head.entries, entries, count * sizeof(*entries));
	done = ioctl(vcpu, KVM_GET_MSRS, &room.head);
	if (done < 0)
		return -errno;
	memcpy(entries, room.head.entries, (size_t)done * sizeof(*entries));
	return done;
}

int ckvm_set_msrs(int vcpu, const struct kvm_msr_entry *entries, uint32_t count)
{
	union msrs_room room = {.head = {.nmsrs = count}};

	if (count > CKVM_MSRS_PER_CALL)
		return -E2BIG;
	memcpy(room.head.entries, entries, count * sizeof(*entries));
	return value_or_errno(ioctl(vcpu, KVM_SET_MSRS, &room.head));
}

#define CPUID_ROOM 256
union cpuid_room {
	struct kvm_cpuid2 head;
	unsigned char bytes[sizeof(struct kvm_cpuid2) + CPUID_ROOM * sizeof(struct kvm_cpuid_entry2)];
};

int ckvm_get_cpuid2(int vcpu, struct kvm_cpuid_entry2 *entries, uint32_t capacity)
{
	union cpuid_room room = {.head = {.nent = CPUID_ROOM}};

	if (ioctl(vcpu, KVM_GET_CPUID2, &room.head) < 0)
		return -errno;
	/* Some kernels do not write the number of entries to nent: drop the zero entries at the end. */
	while (room.head.nent > 0) {
		const struct kvm_cpuid_entry2 *last = &room.head.entries[room.head.nent - 1];

		if (last->function || last->index || last->flags || last->eax || last->ebx || last->ecx || last->edx)
			break;
		room.head.nent--;
	}
	if (room.head.nent > capacity)
		return -E2BIG;
	memcpy(entries, room.head.entries, room.head.nent * sizeof(*entries));
	return (int)room.head.nent;
}

int ckvm_get_xsave(int vcpu, void *area, size_t size)
{
	unsigned long call = size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;

	if (size < sizeof(struct kvm_xsave))
		return -EINVAL;
	return value_or_errno(ioctl(vcpu, call, area));
}

int ckvm_set_xsave(int vcpu, const void *area)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_XSAVE, area));
}

int ckvm_get_xcrs(int vcpu, struct kvm_xcrs *registers)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_XCRS, registers));
}

int ckvm_set_xcrs(int vcpu, const struct kvm_xcrs *registers)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_XCRS, registers));
}

int ckvm_get_debugregs(int vcpu, struct kvm_debugregs *registers)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_DEBUGREGS, registers));
}

int ckvm_set_debugregs(int vcpu, const struct kvm_debugregs *registers)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_DEBUGREGS, registers));
}

int ckvm_set_vcpu_events(int vcpu, const struct kvm_vcpu_events *events)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_VCPU_EVENTS, events));
}

int ckvm_get_tsc_khz(int vcpu)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_TSC_KHZ, 0));
}

int ckvm_set_tsc_khz(int vcpu, uint32_t khz)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_TSC_KHZ, (unsigned long)khz));
}

static struct kvm_device_attr tsc_offset_at(uint64_t *offset)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uint64_t)(uintptr_t)offset,
	};
}

int ckvm_get_tsc_offset(int vcpu, uint64_t *offset)
{
	struct kvm_device_attr attribute = tsc_offset_at(offset);

	return value_or_errno(ioctl(vcpu, KVM_GET_DEVICE_ATTR, &attribute));
}

int ckvm_set_tsc_offset(int vcpu, uint64_t offset)
{
	struct kvm_device_attr attribute = tsc_offset_at(&offset);

	return value_or_errno(ioctl(vcpu, KVM_SET_DEVICE_ATTR, &attribute));
}

int ckvm_get_irqchip(int vm, struct kvm_irqchip *chip)
{
	return value_or_errno(ioctl(vm, KVM_GET_IRQCHIP, chip));
}

int ckvm_set_irqchip(int vm, const struct kvm_irqchip *chip)
{
	return value_or_errno(ioctl(vm, KVM_SET_IRQCHIP, chip));
}

int ckvm_get_pit2(int vm, struct kvm_pit_state2 *state)
{
	return value_or_errno(ioctl(vm, KVM_GET_PIT2, state));
}

int ckvm_set_pit2(int vm, const struct kvm_pit_state2 *state)
{
	return value_or_errno(ioctl(vm, KVM_SET_PIT2, state));
}

int ckvm_get_clock(int vm, struct kvm_clock_data *clock)
{
	return value_or_errno(ioctl(vm, KVM_GET_CLOCK, clock));
}

int ckvm_set_clock(int vm, const struct kvm_clock_data *clock)
{
	return value_or_errno(ioctl(vm, KVM_SET_CLOCK, clock));
}
