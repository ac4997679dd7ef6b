// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI

/// The five arguments of a symcall, or its five results (docs/ABI.md, section 4).
public struct SymCallValues: Sendable, Equatable {
    /// RBX.
    public var rbx: UInt64
    /// RCX.
    public var rcx: UInt64
    /// RDX.
    public var rdx: UInt64
    /// RSI.
    public var rsi: UInt64
    /// RDI.
    public var rdi: UInt64

    /// Five values; the default is 0.
    public init(_ rbx: UInt64 = 0, _ rcx: UInt64 = 0, _ rdx: UInt64 = 0, _ rsi: UInt64 = 0, _ rdi: UInt64 = 0) {
        self.rbx = rbx
        self.rcx = rcx
        self.rdx = rdx
        self.rsi = rsi
        self.rdi = rdi
    }
}

/// Why a symcall failed.
///
/// A small enum, because the exit path throws it: it formats no string until a program reads `description`.
public enum SymCallFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// Most tasks of one list. Each costs up to 2 KiB while it is encoded as JSON, so this bounds the memory that a hostile guest can use.
    static let taskLimit = 32_768

    /// The VM was started without the symbiotic interface.
    case notOffered
    /// The guest has no module, or the module has not registered yet.
    case noModule
    /// The guest unloads the module.
    case moduleUnloading
    /// The guest has not armed this vCPU: the vCPU is off-line, or the module is not ready.
    case notArmed
    /// A handler in this VM exceeded its time limit. The VMM makes no symcall until the guest loads the module again.
    case disabled
    /// A symcall already runs on this vCPU.
    case nested
    /// The vCPU is not in 64-bit mode.
    case notInLongMode
    /// The guest does not have this symcall.
    case unknown
    /// The VMM may make this symcall only inside a doorbell's exit.
    case needsDoorbell
    /// KVM is injecting an interrupt or exception: try again.
    case eventInFlight
    /// KVM could not complete the instruction that caused the exit.
    case exitIncomplete
    /// The handler exceeded its time limit, and the VMM aborted it.
    case timedOut
    /// The handler faulted.
    case faulted(vector: UInt64, errorCode: UInt64, rip: UInt64, address: UInt64)
    /// The handler returned an error.
    case failed(code: UInt64)
    /// The guest did not respond in time.
    case noResponse
    /// The VM does not have this vCPU.
    case noSuchVCPU
    /// The VM is not running.
    case notRunning
    /// The guest's response is invalid.
    case invalidResponse
    /// The guest lists more tasks than the VMM accepts.
    case tooManyTasks

    /// One line for the user.
    public var description: String {
        switch self {
        case .notOffered: "the VM was started with --symbiotic off"
        case .noModule: "the guest has not loaded symbiotic.ko"
        case .moduleUnloading: "the guest's module is being unloaded"
        case .notArmed: "the vCPU is not armed for symcalls: it is off-line in the guest, or the module is not ready"
        case .disabled: "symcalls are disabled: a handler exceeded its time limit; reload the guest's module"
        case .nested: "a symcall already runs on the vCPU"
        case .notInLongMode: "the vCPU is not in 64-bit mode"
        case .unknown: "the guest's module does not have this symcall"
        case .needsDoorbell: "this symcall is possible only inside a doorbell's exit"
        case .eventInFlight: "KVM is injecting an interrupt or exception"
        case .exitIncomplete: "KVM could not complete the instruction that caused the exit"
        case .timedOut: "the guest's handler exceeded its time limit and was aborted; symcalls are now disabled"
        case .faulted(let vector, let code, let rip, let address):
            "the guest's handler faulted: vector \(vector), error code 0x\(String(code, radix: 16)), RIP 0x\(String(rip, radix: 16)), "
                + "CR2 0x\(String(address, radix: 16))"
        case .failed(let code): "the guest's handler returned error \(code) (\(SymCallFailure.guestError(code)))"
        case .noResponse: "the guest did not respond in time"
        case .noSuchVCPU: "the VM does not have this vCPU"
        case .notRunning: "the VM is not running"
        case .invalidResponse: "the guest's response is invalid"
        case .tooManyTasks: "the guest lists more tasks than \(SymCallFailure.taskLimit), or more than fit into its memory"
        }
    }

    /// An error code of the ABI (docs/ABI.md, section 4.3) in words.
    private static func guestError(_ code: UInt64) -> String {
        switch code {
        case UInt64(SYMBIOTIC_E_UNKNOWN): "no such symcall"
        case UInt64(SYMBIOTIC_E_INVALID): "argument out of range"
        case UInt64(SYMBIOTIC_E_CONTEXT): "only inside a doorbell's exit"
        case UInt64(SYMBIOTIC_E_BUSY): "a lock is held, try again"
        case UInt64(SYMBIOTIC_E_NO_BUFFER): "no shared buffer"
        case UInt64(SYMBIOTIC_E_TOO_SMALL): "range too small"
        default: "unknown"
        }
    }
}
