// SPDX-License-Identifier: Apache-2.0

/// Why a guest left to user space. The raw values are stable names for programs.
@frozen public enum ExitReason: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    /// IN from a port.
    case portRead
    /// OUT to a port.
    case portWrite
    /// A read of a device's memory.
    case mmioRead
    /// A write to a device's memory.
    case mmioWrite
    /// RDMSR of a register that symvmm answers.
    case msrRead
    /// WRMSR to a register that symvmm answers.
    case msrWrite
    /// A signal, usually a kick from another thread.
    case interrupted
    /// HLT that KVM did not handle.
    case halt
    /// Triple fault or shutdown.
    case shutdown
    /// A system event: reset or power-off by a paravirtual interface.
    case systemEvent
    /// KVM could not go on.
    case internalError
    /// The processor refused the guest's state.
    case failEntry
    /// Any other.
    case other

    /// The stable name: snake case.
    public var description: String {
        switch self {
        case .portRead: "port_read"
        case .portWrite: "port_write"
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
        case .portRead, .portWrite, .mmioRead, .mmioWrite, .msrRead, .msrWrite: true
        default: false
        }
    }
}
