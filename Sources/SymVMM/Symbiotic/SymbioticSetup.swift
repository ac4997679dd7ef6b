// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// The parts of the symbiotic interface that a machine's vCPUs share.
struct SymbioticSetup: Sendable {
    /// Interrupt of the device by which the VMM asks for a doorbell: that of the second serial port, which is not there.
    static let interruptNumber: UInt32 = 3

    let interface: SymbioticInterface
    let watchdog: SymCallWatchdog
    /// Feature bits for CPUID (docs/ABI.md, section 1).
    let features: UInt32

    /// Prepares the interface; nil when the configuration does not offer it, or when this host's KVM cannot (`symvmm doctor` says so).
    init?(
        _ configuration: MachineConfiguration, _ kvm: borrowing Kvm, _ machine: borrowing VirtualMachineHandle, _ memory: GuestMemory,
        services: [SymbioticService]
    ) throws(KVMError) {
        guard configuration.symbiotic, SymbioticSetup.isPossible(kvm) else { return nil }
        try machine.enable(KVM_CAP_X86_USER_SPACE_MSR, UInt64(KVM_MSR_EXIT_REASON_FILTER))
        let registers = SymbioticInterface.registers
        try machine.interceptMSRs(base: registers.lowerBound, count: UInt32(registers.count))
        let interrupt = try InterruptLine(gsi: SymbioticSetup.interruptNumber, machine: machine)
        interface = SymbioticInterface(memory: memory, interrupt: interrupt, services: services)
        watchdog = try SymCallWatchdog()
        features =
            SYMBIOTIC_FEATURE_SYMSPY | SYMBIOTIC_FEATURE_SYMCALL | SYMBIOTIC_FEATURE_INTERRUPT | SYMBIOTIC_FEATURE_GATE
            | services.reduce(0) { $0 | $1.features }
    }

    private static func isPossible(_ kvm: borrowing Kvm) -> Bool {
        let sets = Int32(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
        return kvm.check(KVM_CAP_X86_USER_SPACE_MSR) > 0 && kvm.check(KVM_CAP_X86_MSR_FILTER) > 0
            && kvm.check(KVM_CAP_SYNC_REGS) & sets == sets
    }
}
