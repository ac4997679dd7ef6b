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
/* Fills at most `capacity` entries; returns how many there are. -E2BIG when they do not fit. 4.46 */
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
/* One range [base, base + count) whose accesses leave to user space where `bitmap` has 0; all others are KVM's. 4.97 */
int ckvm_set_msr_filter(int vm, uint32_t base, uint32_t count, const uint8_t *bitmap);
int ckvm_get_stats_fd(int fd);                                /* 4.133; for a VM or a vCPU */

/* A vCPU. Call on the vCPU's own thread. */
int ckvm_run(int vcpu);                                       /* 4.10 */
int ckvm_set_cpuid2(int vcpu, const struct kvm_cpuid_entry2 *entries, uint32_t count); /* 4.47 */
int ckvm_get_regs(int vcpu, struct kvm_regs *regs);           /* 4.11 */
int ckvm_set_regs(int vcpu, const struct kvm_regs *regs);     /* 4.12 */
int ckvm_get_sregs(int vcpu, struct kvm_sregs *sregs);        /* 4.13 */
int ckvm_set_sregs(int vcpu, const struct kvm_sregs *sregs);  /* 4.14 */
int ckvm_set_msr(int vcpu, uint32_t index, uint64_t value);   /* 4.19; -ENOENT when KVM does not take it */
int ckvm_get_lapic(int vcpu, struct kvm_lapic_state *state);  /* 4.57 */
int ckvm_set_lapic(int vcpu, const struct kvm_lapic_state *state); /* 4.58 */
int ckvm_get_mp_state(int vcpu, struct kvm_mp_state *state);  /* 4.38 */
int ckvm_set_mp_state(int vcpu, const struct kvm_mp_state *state); /* 4.39 */
int ckvm_get_vcpu_events(int vcpu, struct kvm_vcpu_events *events); /* 4.31 */
int ckvm_kvmclock_ctrl(int vcpu);                             /* 4.74 */

/* The signal that makes KVM_RUN return: its handler does nothing, SA_RESTART is set so that no other call notices. */
int ckvm_install_kick_handler(int signal);
/* Lets the calling thread receive the signal: a thread inherits its maker's mask, and libdispatch's threads block everything. */
int ckvm_unblock_signal(int signal);

/* A counter in the kernel (eventfd(2)) at zero, close-on-exec. */
int ckvm_eventfd(bool nonblocking);
/* A descriptor of the process that listens where a Unix socket is connected to: unix(7) SO_PEERCRED, pidfd_open(2). */
int ckvm_peer_process(int socket);
/* Anonymous memory with a descriptor: zeroes, `bytes` long. */
int ckvm_memory_file(const char *name, uint64_t bytes);
/* CPUID 0x80000008; 36 when the processor does not have it, at most 52. */
int ckvm_physical_address_bits(void);
/* Names the calling thread; the kernel keeps 15 bytes. */
int ckvm_name_thread(const char *name);
/* The stack size of threads made from now on without one of their own. */
int ckvm_set_default_stack_size(size_t bytes);
/* The C library's words for an error number, cut to fit. */
int ckvm_error_message(int error, char *text, size_t capacity);

/* A tap interface: opens /dev/net/tun, attaches to `name`, sets the virtio-net header's size. */
int ckvm_open_tap(const char *name, int header_size);
int ckvm_set_tap_offload(int tap, unsigned int flags);

/* Gives back the space of a range of a file, or keeps it; either way the range reads as zeroes. fallocate(2) */
int ckvm_punch_hole(int fd, int64_t offset, int64_t length);
int ckvm_zero_range(int fd, int64_t offset, int64_t length);
int ckvm_block_device_size(int fd, uint64_t *bytes);
int ckvm_block_logical_sector_size(int fd, uint32_t *bytes);
/* Locks a whole file for this open file description: a writer alone, readers together. -EAGAIN when another one holds it. */
int ckvm_lock_file(int fd, bool exclusive);
/* A folder by which files in it are named, whether or not it can be read (O_PATH). Closed on exec. */
int ckvm_open_folder(const char *path);
/* Makes `number` mean what `fd` means, at once; what it meant before is closed. Closed on exec. */
int ckvm_replace_descriptor(int number, int fd);

/* An epoll instance, close-on-exec. */
int ckvm_epoll(void);
/* Random bytes of the kernel; as getrandom(2), without waiting. */
ssize_t ckvm_random(void *bytes, size_t count);

/*
 * The run page (5. The kvm_run structure). The kernel writes it while KVM_RUN
 * runs, this thread reads it after; immediate_exit alone is written by others.
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

static inline struct kvm_sync_regs ckvm_synced_registers(const struct kvm_run *run)
{
	return run->s.regs;
}

static inline void ckvm_set_synced_registers(struct kvm_run *run, const struct kvm_sync_regs *registers)
{
	run->s.regs = *registers;
}

static inline struct kvm_regs ckvm_synced_general_registers(const struct kvm_run *run)
{
	return run->s.regs.regs;
}

/* In two pieces, which the compiler copies in line: for more than 128 bytes it calls memcpy. */
static inline void ckvm_copy_registers(struct kvm_regs *to, const struct kvm_regs *from)
{
	__builtin_memcpy(to, from, 128);
	__builtin_memcpy((char *)to + 128, (const char *)from + 128, sizeof(*to) - 128);
}

static inline void ckvm_take_general_registers(const struct kvm_run *run, struct kvm_regs *registers)
{
	ckvm_copy_registers(registers, &run->s.regs.regs);
}

static inline void ckvm_set_synced_general_registers(struct kvm_run *run, const struct kvm_regs *registers)
{
	ckvm_copy_registers(&run->s.regs.regs, registers);
}

/* The processor's time stamp counter: the cheapest clock there is, with or without a vDSO. */
static inline uint64_t ckvm_ticks(void)
{
	return __rdtsc();
}

#endif
