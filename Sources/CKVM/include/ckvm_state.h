/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's functions that save and restore KVM's state of a vCPU and of a
 * virtual machine. As in ckvm.h, each returns a value >= 0, or -errno, and
 * section numbers are those of the kernel's api.rst. Call them while no vCPU
 * of the virtual machine runs.
 */
#ifndef CKVM_STATE_H
#define CKVM_STATE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

/* Most MSRs that one call reads or writes: KVM refuses 256 (MAX_IO_MSRS in arch/x86/kvm/x86.c) and more. */
#define CKVM_MSRS_PER_CALL 255u
/* Flag: kvm_clock_data contains the host's TSC. Swift's importer cannot read the kernel's macro. */
enum { CKVM_CLOCK_HOST_TSC = 1u << 3 };

/* The MSRs that KVM can save. Returns their number, or -E2BIG if there are more than `capacity`. 4.3 */
int ckvm_get_msr_index_list(int kvm, uint32_t *indices, uint32_t capacity);

/* A vCPU. */
/* Both stop at the first MSR that KVM rejects, and return the number of MSRs before it. 4.18, 4.19 */
int ckvm_get_msrs(int vcpu, struct kvm_msr_entry *entries, uint32_t count);
int ckvm_set_msrs(int vcpu, const struct kvm_msr_entry *entries, uint32_t count);
/* Returns the number of entries, or -E2BIG if there are more than `capacity`. 4.48 */
int ckvm_get_cpuid2(int vcpu, struct kvm_cpuid_entry2 *entries, uint32_t capacity);
/* `size` is 4096, or the value of KVM_CAP_XSAVE2. 4.42, 4.43, 4.134 */
int ckvm_get_xsave(int vcpu, void *area, size_t size);
int ckvm_set_xsave(int vcpu, const void *area);
int ckvm_get_xcrs(int vcpu, struct kvm_xcrs *registers);            /* 4.44 */
int ckvm_set_xcrs(int vcpu, const struct kvm_xcrs *registers);      /* 4.45 */
int ckvm_get_debugregs(int vcpu, struct kvm_debugregs *registers);  /* 4.33 */
int ckvm_set_debugregs(int vcpu, const struct kvm_debugregs *registers); /* 4.34 */
int ckvm_set_vcpu_events(int vcpu, const struct kvm_vcpu_events *events); /* 4.32 */
int ckvm_get_tsc_khz(int vcpu);                                     /* 4.56 */
int ckvm_set_tsc_khz(int vcpu, uint32_t khz);                       /* 4.55 */
/* The offset that KVM adds to the host's TSC: attribute KVM_VCPU_TSC_OFFSET. devices/vcpu.rst, 4.1 */
int ckvm_get_tsc_offset(int vcpu, uint64_t *offset);
int ckvm_set_tsc_offset(int vcpu, uint64_t offset);

/* A virtual machine. */
int ckvm_get_irqchip(int vm, struct kvm_irqchip *chip);             /* 4.26 */
int ckvm_set_irqchip(int vm, const struct kvm_irqchip *chip);       /* 4.27 */
int ckvm_get_pit2(int vm, struct kvm_pit_state2 *state);            /* 4.72 */
int ckvm_set_pit2(int vm, const struct kvm_pit_state2 *state);      /* 4.73 */
int ckvm_get_clock(int vm, struct kvm_clock_data *clock);           /* 4.29 */
int ckvm_set_clock(int vm, const struct kvm_clock_data *clock);     /* 4.30 */

#endif
