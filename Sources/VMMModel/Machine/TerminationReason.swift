// SPDX-License-Identifier: Apache-2.0

/// Why a virtual machine's run ended.
public enum TerminationReason: Sendable, Equatable {
    /// The guest powered off.
    case powerOff
    /// The guest requested a reset. symvmm does not restart it.
    case reset
    /// The user, or the program that embeds the VM, killed it.
    case killed
    /// The guest crashed.
    case crashed(CrashReport)
    /// The guest wrote this value to the test device, which ends the run (`MachineConfiguration.testDevice`).
    case reported(UInt32)
}

/// Describes a guest crash.
public struct CrashReport: Sendable, Equatable {
    /// `triple fault`, `KVM internal error 1 (emulation)`, ...
    public let reason: String
    /// Number of the vCPU that crashed.
    public let vcpu: Int
    /// The vCPU's registers, in output order, RIP first. Empty if KVM could not read them.
    public let registers: [(name: String, value: UInt64)]

    /// Whether it was a triple fault.
    public var isTripleFault: Bool { reason.hasPrefix("triple fault") }

    /// Describes a crash.
    public init(reason: String, vcpu: Int, registers: [(name: String, value: UInt64)]) {
        self.reason = reason
        self.vcpu = vcpu
        self.registers = registers
    }

    /// Compares all fields.
    public static func == (left: CrashReport, right: CrashReport) -> Bool {
        left.reason == right.reason && left.vcpu == right.vcpu && left.registers.elementsEqual(right.registers, by: ==)
    }
}

/// The state of a virtual machine.
public enum MachineState: String, Sendable {
    /// Created; no vCPU has run.
    case notStarted = "Not started"
    /// The vCPUs are running.
    case running = "Running"
    /// The vCPUs are paused: none of them is inside KVM_RUN.
    case paused = "Paused"
    /// The run has ended.
    case ended = "Ended"
}
