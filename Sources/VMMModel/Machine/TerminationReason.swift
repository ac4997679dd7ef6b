// SPDX-License-Identifier: Apache-2.0

/// How a virtual machine's run ended.
public enum TerminationReason: Sendable, Equatable {
    /// The guest switched the power off.
    case powerOff
    /// The guest asked for a reset; symvmm does not start it again.
    case reset
    /// The user ended the VM from outside.
    case killed
    /// The guest cannot go on.
    case crashed(CrashReport)
}

/// What is known of a guest that cannot go on: for the user's eyes.
public struct CrashReport: Sendable, Equatable {
    /// In words: `triple fault`, `KVM internal error 1 (emulation)`, …
    public let reason: String
    /// Number of the vCPU that could not go on.
    public let vcpu: Int
    /// Its registers then, by name in the order in which to print them; RIP first. Empty when they could not be read.
    public let registers: [(name: String, value: UInt64)]

    /// Describes a crash.
    public init(reason: String, vcpu: Int, registers: [(name: String, value: UInt64)]) {
        self.reason = reason
        self.vcpu = vcpu
        self.registers = registers
    }

    /// Equal when all that is known is equal.
    public static func == (left: CrashReport, right: CrashReport) -> Bool {
        left.reason == right.reason && left.vcpu == right.vcpu && left.registers.elementsEqual(right.registers, by: ==)
    }
}

/// Where a virtual machine is in its life.
public enum MachineState: String, Sendable {
    /// Made, no vCPU has run.
    case notStarted = "Not started"
    /// The vCPUs run.
    case running = "Running"
    /// The vCPUs wait between two exits.
    case paused = "Paused"
    /// The run has ended.
    case ended = "Ended"
}
