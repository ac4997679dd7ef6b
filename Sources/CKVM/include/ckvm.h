/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C shim: one function per ioctl or compound operation. Each returns a
 * value >= 0, or -errno. No policy, no allocation. Section numbers are those
 * of the kernel's Documentation/virt/kvm/api.rst.
 */
#ifndef CKVM_H
#define CKVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <x86intrin.h>

/* Constants that Linux 6.1's headers do not have. */
#define CKVM_EXIT_MEMORY_FAULT 39u

/* Constants whose macros Swift's importer cannot read. */
enum {
	CKVM_PIT_SPEAKER_DUMMY = 1u,
	CKVM_IRQFD_FLAG_DEASSIGN = 1u << 0,
	CKVM_IOEVENTFD_FLAG_DATAMATCH = 1u << 0,
	CKVM_IOEVENTFD_FLAG_PIO = 1u << 1,
	CKVM_IOEVENTFD_FLAG_DEASSIGN = 1u << 2,
};

/* The system: /dev/kvm. */
int ckvm_open(const char *path);
int ckvm_get_api_version(int kvm);                            /* 4.1 */
int ckvm_create_vm(int kvm);                                  /* 4.2 */
int ckvm_check_extension(int fd, unsigned long capability);   /* 4.4 */
int ckvm_get_vcpu_mmap_size(int kvm);                         /* 4.5 */
/* Returns the number of entries, or -E2BIG if there are more than `capacity`. 4.46 */
int ckvm_get_supported_cpuid(int kvm, struct kvm_cpuid_entry2 *entries, uint32_t capacity);

/* A virtual machine. */
int ckvm_create_vcpu(int vm, uint32_t id);                    /* 4.7 */
int ckvm_create_irqchip(int vm);                              /* 4.24 */
int ckvm_create_pit2(int vm, uint32_t flags);                 /* 4.71 */
int ckvm_set_tss_addr(int vm, uint64_t gpa);                  /* 4.36 */
int ckvm_set_identity_map_addr(int vm, uint64_t gpa);         /* 4.41 */
int ckvm_set_user_memory_region(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva); /* 4.35 */
int ckvm_irqfd(int vm, int eventfd, uint32_t gsi, uint32_t flags);      /* 4.75 */
int ckvm_ioeventfd(int vm, int eventfd, uint64_t address, uint32_t length, uint32_t flags, uint64_t datamatch); /* 4.59 */
int ckvm_irq_line(int vm, uint32_t gsi, uint32_t level);      /* 4.25 */
int ckvm_enable_cap(int fd, uint32_t capability, uint64_t argument0);   /* 4.37 */
/* An access to MSR base + n, n < count, exits to user space if bit n of `bitmap` is 0. KVM handles all other MSRs. 4.97 */
int ckvm_set_msr_filter(int vm, uint32_t base, uint32_t count, const uint8_t *bitmap);
int ckvm_get_stats_fd(int fd);                                /* 4.133; for a VM or a vCPU */

/* A vCPU. Call on the vCPU's own thread. */
int ckvm_run(int vcpu);                                       /* 4.10 */
int ckvm_set_cpuid2(int vcpu, const struct kvm_cpuid_entry2 *entries, uint32_t count); /* 4.47 */
int ckvm_get_regs(int vcpu, struct kvm_regs *regs);           /* 4.11 */
int ckvm_set_regs(int vcpu, const struct kvm_regs *regs);     /* 4.12 */
int ckvm_get_sregs(int vcpu, struct kvm_sregs *sregs);        /* 4.13 */
int ckvm_set_sregs(int vcpu, const struct kvm_sregs *sregs);  /* 4.14 */
int ckvm_set_msr(int vcpu, uint32_t index, uint64_t value);   /* 4.19; -ENOENT if KVM rejects the MSR or the value */
int ckvm_get_lapic(int vcpu, struct kvm_lapic_state *state);  /* 4.57 */
int ckvm_set_lapic(int vcpu, const struct kvm_lapic_state *state); /* 4.58 */
int ckvm_get_mp_state(int vcpu, struct kvm_mp_state *state);  /* 4.38 */
int ckvm_set_mp_state(int vcpu, const struct kvm_mp_state *state); /* 4.39 */
int ckvm_get_vcpu_events(int vcpu, struct kvm_vcpu_events *events); /* 4.31 */
int ckvm_kvmclock_ctrl(int vcpu);                             /* 4.74 */

/* Installs a handler that does nothing, for the signal that makes KVM_RUN return. With SA_RESTART, the kernel restarts other calls. */
int ckvm_install_kick_handler(int signal);
/* Unblocks the signal in the calling thread. A thread inherits its creator's mask, and libdispatch's threads block all signals. */
int ckvm_unblock_signal(int signal);

/* A counter in the kernel (eventfd(2)) at zero, close-on-exec. */
int ckvm_eventfd(bool nonblocking);
/* The process that listens at the other end of a connected Unix socket: unix(7), SO_PEERCRED. */
int ckvm_peer_pid(int socket);
int ckvm_open_process(int pid);                    /* pidfd_open(2) */
int ckvm_signal_process(int pidfd, int signal);    /* pidfd_send_signal(2) */
/* Anonymous memory with a descriptor (memfd_create(2)): `bytes` long, zero-filled. */
int ckvm_memory_file(const char *name, uint64_t bytes);
/* Physical-address bits from CPUID 0x80000008, at most 52; 36 if the processor lacks the leaf. */
int ckvm_physical_address_bits(void);
/* The processor's name from CPUID 0x80000002 to 4, 48 bytes; -ENOENT if it has none. */
int ckvm_processor_name(unsigned char *name);
/* What CPUID says: 1 for AMD's SVM, 2 for Intel's VMX, 0 for neither. */
int ckvm_hardware_virtualization(void);
/* Names the calling thread; the kernel keeps 15 bytes. */
int ckvm_name_thread(const char *name);
/* Makes all threads use one malloc arena: mallopt(3). */
void ckvm_use_one_arena(void);
/* Sets the stack size of threads that are created later without an explicit size. */
int ckvm_set_default_stack_size(size_t bytes);
/* The process gains no privileges by execve(2), writes no core file, and no other process of its user can trace it or read its memory. prctl(2) */
int ckvm_forbid_privileges_and_dumps(void);

/* A tap interface: opens /dev/net/tun, attaches to `name`, sets the virtio-net header's size. */
int ckvm_open_tap(const char *name, int header_size);
int ckvm_set_tap_offload(int tap, unsigned int flags);

/* Both make a range of a file read as zeroes. Punching a hole frees its space, zeroing keeps it. fallocate(2) */
int ckvm_punch_hole(int fd, int64_t offset, int64_t length);
int ckvm_zero_range(int fd, int64_t offset, int64_t length);
int ckvm_block_device_size(int fd, uint64_t *bytes);
int ckvm_block_logical_sector_size(int fd, uint32_t *bytes);
/* Locks a whole file for this open file description: one writer, or any number of readers. -EAGAIN if another holds a conflicting lock. */
int ckvm_lock_file(int fd, bool exclusive);
/* Opens a folder for calls like openat(2). O_PATH needs no read permission. Close-on-exec. */
int ckvm_open_folder(const char *path);
/* Atomically closes descriptor `number` and makes it refer to the open file of `fd`. Close-on-exec. dup3(2) */
int ckvm_replace_descriptor(int number, int fd);

/* An epoll instance, close-on-exec. */
int ckvm_epoll(void);
/* Reads random bytes from the kernel; does not block. getrandom(2) */
ssize_t ckvm_random(void *bytes, size_t count);

/*
 * The run page (5. The kvm_run structure). The kernel writes it during KVM_RUN;
 * the vCPU's thread reads it afterwards. Other threads write only immediate_exit.
 */
struct ckvm_port_exit {
	uint8_t direction; /* KVM_EXIT_IO_IN 0, KVM_EXIT_IO_OUT 1 */
	uint8_t size;
	uint16_t port;
	uint32_t count;
	uint64_t data_offset;
};

struct ckvm_mmio_exit {
	uint64_t address;
	uint64_t data;
	uint32_t length;
	bool is_write;
};

struct ckvm_msr_exit {
	uint32_t index;
	uint32_t reason;
	uint64_t data;
};

static inline uint32_t ckvm_exit_reason(const struct kvm_run *run)
{
	return run->exit_reason;
}

static inline struct ckvm_port_exit ckvm_exit_port(const struct kvm_run *run)
{
	return (struct ckvm_port_exit){run->io.direction, run->io.size, run->io.port, run->io.count, run->io.data_offset};
}

static inline struct ckvm_mmio_exit ckvm_exit_mmio(const struct kvm_run *run)
{
	struct ckvm_mmio_exit exit = {run->mmio.phys_addr, 0, run->mmio.len, run->mmio.is_write != 0};

	__builtin_memcpy(&exit.data, run->mmio.data, sizeof(exit.data));
	return exit;
}

static inline void ckvm_answer_mmio(struct kvm_run *run, uint64_t data)
{
	__builtin_memcpy(run->mmio.data, &data, sizeof(data));
}

static inline struct ckvm_msr_exit ckvm_exit_msr(const struct kvm_run *run)
{
	return (struct ckvm_msr_exit){run->msr.index, run->msr.reason, run->msr.data};
}

static inline void ckvm_answer_msr(struct kvm_run *run, uint64_t data, bool error)
{
	run->msr.data = data;
	run->msr.error = error;
}

static inline uint64_t ckvm_exit_hardware_reason(const struct kvm_run *run)
{
	return run->fail_entry.hardware_entry_failure_reason;
}

static inline uint32_t ckvm_exit_internal_suberror(const struct kvm_run *run)
{
	return run->internal.suberror;
}

static inline uint32_t ckvm_exit_system_event(const struct kvm_run *run)
{
	return run->system_event.type;
}

static inline void ckvm_set_immediate_exit(struct kvm_run *run, uint8_t value)
{
	__atomic_store_n(&run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

static inline void ckvm_set_valid_registers(struct kvm_run *run, uint64_t sets)
{
	run->kvm_valid_regs = sets;
}

static inline void ckvm_set_dirty_registers(struct kvm_run *run, uint64_t sets)
{
	run->kvm_dirty_regs = sets;
}

/* The registers that KVM_RUN stores or loads (KVM API 5, KVM_CAP_SYNC_REGS). */
static inline struct kvm_sync_regs *ckvm_synced_registers(struct kvm_run *run)
{
	return &run->s.regs;
}

/* In two pieces, because the compiler copies at most 128 bytes in line and calls memcpy for more. */
static inline void ckvm_copy_general_registers(struct kvm_sync_regs *to, const struct kvm_sync_regs *from)
{
	__builtin_memcpy(&to->regs, &from->regs, 128);
	__builtin_memcpy((char *)&to->regs + 128, (const char *)&from->regs + 128, sizeof(to->regs) - 128);
}

/* The processor's time stamp counter: the cheapest clock, and it needs no vDSO. */
static inline uint64_t ckvm_ticks(void)
{
	return __rdtsc();
}

#endif
