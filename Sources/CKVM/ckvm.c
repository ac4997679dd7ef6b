// SPDX-License-Identifier: Apache-2.0
/* KVM: one function for each ioctl. */
#define _GNU_SOURCE
#include "ckvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "result.h"

int ckvm_open(const char *path)
{
	return value_or_errno(open(path, O_RDWR | O_CLOEXEC));
}

int ckvm_get_api_version(int kvm)
{
	return value_or_errno(ioctl(kvm, KVM_GET_API_VERSION, 0));
}

int ckvm_create_vm(int kvm)
{
	int vm;

	/* A signal can interrupt KVM_CREATE_VM while it registers its MMU notifier; then it has created nothing. */
	do {
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
	} while (vm < 0 && errno == EINTR);
	return value_or_errno(vm);
}

int ckvm_check_extension(int fd, unsigned long capability)
{
	return value_or_errno(ioctl(fd, KVM_CHECK_EXTENSION, capability));
}

int ckvm_get_vcpu_mmap_size(int kvm)
{
	return value_or_errno(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
}

/* kvm_cpuid2 ends in a flexible array. KVM has at most 256 entries (KVM_MAX_CPUID_ENTRIES). */
#define CPUID_ROOM 256
union cpuid_room {
	struct kvm_cpuid2 head;
	unsigned char bytes[sizeof(struct kvm_cpuid2) + CPUID_ROOM * sizeof(struct kvm_cpuid_entry2)];
};

int ckvm_get_supported_cpuid(int kvm, struct kvm_cpuid_entry2 *entries, uint32_t capacity)
{
	union cpuid_room room = {.head = {.nent = CPUID_ROOM}};

	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &room.head) < 0)
		return -errno;
	if (room.head.nent > capacity)
		return -E2BIG;
	memcpy(entries, room.head.entries, room.head.nent * sizeof(*entries));
	return (int)room.head.nent;
}

int ckvm_set_cpuid2(int vcpu, const struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	union cpuid_room room = {.head = {.nent = count}};

	if (count > CPUID_ROOM)
		return -E2BIG;
	memcpy(room.head.entries, entries, count * sizeof(*entries));
	return value_or_errno(ioctl(vcpu, KVM_SET_CPUID2, &room.head));
}

int ckvm_create_vcpu(int vm, uint32_t id)
{
	return value_or_errno(ioctl(vm, KVM_CREATE_VCPU, (unsigned long)id));
}

int ckvm_create_irqchip(int vm)
{
	return value_or_errno(ioctl(vm, KVM_CREATE_IRQCHIP, 0));
}

int ckvm_create_pit2(int vm, uint32_t flags)
{
	struct kvm_pit_config config = {.flags = flags};

	return value_or_errno(ioctl(vm, KVM_CREATE_PIT2, &config));
}

int ckvm_set_tss_addr(int vm, uint64_t gpa)
{
	return value_or_errno(ioctl(vm, KVM_SET_TSS_ADDR, (unsigned long)gpa));
}

int ckvm_set_identity_map_addr(int vm, uint64_t gpa)
{
	return value_or_errno(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &gpa));
}

int ckvm_set_user_memory_region(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uint64_t)(uintptr_t)hva,
	};

	return value_or_errno(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
}

int ckvm_irqfd(int vm, int eventfd, uint32_t gsi, uint32_t flags)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = gsi, .flags = flags};

	return value_or_errno(ioctl(vm, KVM_IRQFD, &irqfd));
}

int ckvm_ioeventfd(int vm, int eventfd, uint64_t address, uint32_t length, uint32_t flags, uint64_t datamatch)
{
	struct kvm_ioeventfd doorbell = {
		.datamatch = datamatch,
		.addr = address,
		.len = length,
		.fd = eventfd,
		.flags = flags,
	};

	return value_or_errno(ioctl(vm, KVM_IOEVENTFD, &doorbell));
}

int ckvm_irq_line(int vm, uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	return value_or_errno(ioctl(vm, KVM_IRQ_LINE, &line));
}

int ckvm_enable_cap(int fd, uint32_t capability, uint64_t argument0)
{
	struct kvm_enable_cap cap = {.cap = capability, .args = {argument0}};

	return value_or_errno(ioctl(fd, KVM_ENABLE_CAP, &cap));
}

int ckvm_set_msr_filter(int vm, uint32_t base, uint32_t count, const uint8_t *bitmap)
{
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = {{
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
			.nmsrs = count,
			.base = base,
			.bitmap = (uint8_t *)bitmap,
		}},
	};

	return value_or_errno(ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter));
}

int ckvm_get_stats_fd(int fd)
{
	return value_or_errno(ioctl(fd, KVM_GET_STATS_FD, 0));
}

int ckvm_run(int vcpu)
{
	return value_or_errno(ioctl(vcpu, KVM_RUN, 0));
}

int ckvm_get_regs(int vcpu, struct kvm_regs *regs)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_REGS, regs));
}

int ckvm_set_regs(int vcpu, const struct kvm_regs *regs)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_REGS, regs));
}

int ckvm_get_sregs(int vcpu, struct kvm_sregs *sregs)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_SREGS, sregs));
}

int ckvm_set_sregs(int vcpu, const struct kvm_sregs *sregs)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_SREGS, sregs));
}

union msr_room {
	struct kvm_msrs head;
	unsigned char bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

int ckvm_set_msr(int vcpu, uint32_t index, uint64_t value)
{
	union msr_room room = {.head = {.nmsrs = 1}};
	int result;

	room.head.entries[0].index = index;
	room.head.entries[0].data = value;
	result = ioctl(vcpu, KVM_SET_MSRS, &room.head);
	if (result < 0)
		return -errno;
	return result == 0 ? -ENOENT : 0;
}

int ckvm_get_lapic(int vcpu, struct kvm_lapic_state *state)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_LAPIC, state));
}

int ckvm_set_lapic(int vcpu, const struct kvm_lapic_state *state)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_LAPIC, state));
}

int ckvm_get_mp_state(int vcpu, struct kvm_mp_state *state)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_MP_STATE, state));
}

int ckvm_set_mp_state(int vcpu, const struct kvm_mp_state *state)
{
	return value_or_errno(ioctl(vcpu, KVM_SET_MP_STATE, state));
}

int ckvm_get_vcpu_events(int vcpu, struct kvm_vcpu_events *events)
{
	return value_or_errno(ioctl(vcpu, KVM_GET_VCPU_EVENTS, events));
}

int ckvm_kvmclock_ctrl(int vcpu)
{
	return value_or_errno(ioctl(vcpu, KVM_KVMCLOCK_CTRL, 0));
}
