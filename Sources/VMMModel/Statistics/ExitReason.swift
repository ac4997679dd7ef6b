// SPDX-License-Identifier: Apache-2.0

/// Why KVM_RUN returned to user space. The descriptions are stable names for programs.
@frozen public enum ExitReason: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    /// Port I/O: IN.
    case pioRead
    /// Port I/O: OUT.
    case pioWrite
    /// MMIO read.
    case mmioRead
    /// MMIO write.
    case mmioWrite
    /// RDMSR that KVM passes to user space.
    case msrRead
    /// WRMSR that KVM passes to user space.
    case msrWrite
    /// A signal: usually another thread kicked the vCPU.
    case interrupted
    /// HLT that KVM did not handle in the kernel.
    case halt
    /// Triple fault or shutdown.
    case shutdown
    /// KVM_EXIT_SYSTEM_EVENT: a paravirtual reset or power-off.
    case systemEvent
    /// KVM_EXIT_INTERNAL_ERROR.
    case internalError
    /// KVM_EXIT_FAIL_ENTRY: the processor refused the guest state.
    case failEntry
    /// Any other reason.
    case other

    /// The stable name, in snake case.
    public var description: String {
        switch self {
        case .pioRead: "pio_read"
        case .pioWrite: "pio_write"
        case .mmioRead: "mmio_read"
        case .mmioWrite: "mmio_write"
        case .msrRead: "msr_read"
        case .msrWrite: "msr_write"
        case .interrupted: "interrupted"
        case .halt: "halt"
        case .shutdown: "shutdown"
        case .systemEvent: "system_event"
        case .internalError: "internal_error"
        case .failEntry: "fail_entry"
        case .other: "other"
        }
    }
}

extension ExitReason {
    /// Whether exits of this reason have a port, a GPA or an MSR number.
    package var hasAddress: Bool {
        switch self {
        case .pioRead, .pioWrite, .mmioRead, .mmioWrite, .msrRead, .msrWrite: true
        default: false
        }
    }
}
