// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// An extension of KVM that symvmm uses (KVM API 4.4), and what needs it. `symvmm doctor` prints this list; `VirtualMachine` checks it.
struct KVMCapability: Sendable {
    /// What needs the extension.
    enum Need: Sendable {
        /// Every guest.
        case everyGuest
        /// The symbiotic interface. Without it, guests run without that interface.
        case symbioticGuest
        /// No guest: without it, something is slower or not measured.
        case nobody
    }

    /// The kernel's name, without `KVM_CAP_`.
    let name: String
    /// The kernel's number.
    let number: Int32
    let need: Need
    /// Bits that must be set in the kernel's answer; 0 accepts any non-zero answer.
    let bits: Int32
    /// What it is for, or what is missing without it.
    let purpose: String

    private init(_ name: String, _ number: Int32, _ need: Need, bits: Int32 = 0, _ purpose: String) {
        self.name = name
        self.number = number
        self.need = need
        self.bits = bits
        self.purpose = purpose
    }

    /// Whether the kernel's answer, from KVM_CHECK_EXTENSION, is sufficient.
    func isEnough(_ value: Int32) -> Bool {
        value > 0 && value & bits == bits
    }

    /// Names of the extensions that `need` requires and this kernel lacks.
    static func missing(for need: Need, _ kvm: borrowing KVMSystem) -> [String] {
        var names: [String] = []
        for capability in all where capability.need == need {
            if !capability.isEnough(kvm.check(capability.number)) { names.append(capability.name) }
        }
        return names
    }

    /// All extensions, in the order of the list that `symvmm doctor` prints.
    static let all: [KVMCapability] = [
        KVMCapability("IRQCHIP", KVM_CAP_IRQCHIP, .everyGuest, "interrupt controllers in the kernel"),
        KVMCapability("USER_MEMORY", KVM_CAP_USER_MEMORY, .everyGuest, "guest memory"),
        KVMCapability("SET_TSS_ADDR", KVM_CAP_SET_TSS_ADDR, .everyGuest, "real mode on Intel processors"),
        KVMCapability("SET_IDENTITY_MAP_ADDR", KVM_CAP_SET_IDENTITY_MAP_ADDR, .everyGuest, "real mode on Intel processors"),
        KVMCapability("EXT_CPUID", KVM_CAP_EXT_CPUID, .everyGuest, "choosing the guest's CPUID"),
        KVMCapability("PIT2", KVM_CAP_PIT2, .everyGuest, "the timer that a kernel uses while it boots"),
        KVMCapability("IRQFD", KVM_CAP_IRQFD, .everyGuest, "device interrupts"),
        KVMCapability("IOEVENTFD", KVM_CAP_IOEVENTFD, .everyGuest, "queue notifications without an exit to user space"),
        KVMCapability("MP_STATE", KVM_CAP_MP_STATE, .everyGuest, "more than one vCPU"),
        KVMCapability("VCPU_EVENTS", KVM_CAP_VCPU_EVENTS, .everyGuest, "symcalls"),
        KVMCapability("IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, .everyGuest, "stopping a vCPU without a race"),
        KVMCapability("X86_USER_SPACE_MSR", KVM_CAP_X86_USER_SPACE_MSR, .symbioticGuest, "symbiotic guests register by MSRs"),
        KVMCapability("X86_MSR_FILTER", KVM_CAP_X86_MSR_FILTER, .symbioticGuest, "symbiotic guests register by MSRs"),
        KVMCapability(
            "SYNC_REGS", KVM_CAP_SYNC_REGS, .symbioticGuest, bits: Int32(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS),
            "symcalls: registers, segments and events in the run page"),
        KVMCapability("BINARY_STATS_FD", KVM_CAP_BINARY_STATS_FD, .nobody, "statistics of in-kernel exits"),
        KVMCapability("READONLY_MEM", KVM_CAP_READONLY_MEM, .nobody, "memory that a guest cannot write"),
        KVMCapability("KVMCLOCK_CTRL", KVM_CAP_KVMCLOCK_CTRL, .nobody, "no false soft-lockup report after a pause"),
        KVMCapability("TSC_DEADLINE_TIMER", KVM_CAP_TSC_DEADLINE_TIMER, .nobody, "cheaper guest timers"),
    ]
}
