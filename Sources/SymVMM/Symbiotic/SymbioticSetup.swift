// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import VMMBase
internal import VMMModel

/// The parts of the symbiotic interface that a machine's vCPUs share.
struct SymbioticSetup: Sendable {
    /// Interrupt of the ACPI device SYMV0001, which requests a doorbell: that of the second serial port, which the machine does not have.
    static let interruptNumber: UInt32 = 3

    let interface: SymbioticInterface
    let watchdog: SymCallWatchdog
    /// Feature bits for CPUID (docs/ABI.md, section 1).
    let features: UInt32

    /// Creates the interface without KVM, for tests and fuzz targets.
    init(interface: SymbioticInterface, watchdog: SymCallWatchdog, features: UInt32) {
        self.interface = interface
        self.watchdog = watchdog
        self.features = features
    }

    /// Makes the interface; nil when the configuration disables it, or when the host's KVM lacks a capability (`symvmm doctor` lists them).
    init?(
        _ configuration: MachineConfiguration, _ kvm: borrowing KVMSystem, _ machine: borrowing KVMVirtualMachine, _ memory: GuestMemory,
        services: [SymbioticService]
    ) throws(VMMError) {
        guard configuration.symbiotic, KVMCapability.missing(for: .symbioticGuest, kvm).isEmpty else { return nil }
        try machine.enable(KVM_CAP_X86_USER_SPACE_MSR, UInt64(KVM_MSR_EXIT_REASON_FILTER))
        let registers = SymbioticInterface.registers
        try machine.interceptMSRs(base: registers.lowerBound, count: UInt32(registers.count))
        let interrupt = try InterruptLine(gsi: SymbioticSetup.interruptNumber, machine: machine)
        interface = SymbioticInterface(memory: memory, interrupt: interrupt, services: services)
        watchdog = try SymCallWatchdog()
        features = services.reduce(ServiceClaims.interface.features) { $0 | $1.claims.features }
    }
}
