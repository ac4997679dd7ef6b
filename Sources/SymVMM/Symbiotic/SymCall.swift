// SPDX-License-Identifier: Apache-2.0

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

    /// Five values; those not given are 0.
    public init(_ rbx: UInt64 = 0, _ rcx: UInt64 = 0, _ rdx: UInt64 = 0, _ rsi: UInt64 = 0, _ rdi: UInt64 = 0) {
        self.rbx = rbx
        self.rcx = rcx
        self.rdx = rdx
        self.rsi = rsi
        self.rdi = rdi
    }
}

/// Why a symcall gave no results.
public enum SymCallError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Most tasks of one list. Each costs up to 2 KiB while it is made into JSON, so this bounds what a guest that lies can take.
    static let mostTasks = 32_768

    /// The VM was started without the symbiotic interface.
    case notOffered
    /// The guest has no module, or it has not registered yet.
    case noModule
    /// The module is being unloaded.
    case leaving
    /// This vCPU takes no symcalls: it is off-line or not yet prepared.
    case notArmed
    /// A symcall of this VM outran its time; none is made until the module is loaded anew.
    case switchedOff
    /// A symcall is running on this vCPU.
    case nested
    /// The vCPU is not in 64-bit mode.
    case notInLongMode
    /// The guest has no symcall of this number.
    case unknown
    /// The symcall may only be made inside a doorbell's exit.
    case needsDoorbell
    /// An interrupt or exception is on its way into the guest: ask again.
    case eventInFlight
    /// The exit in hand could not be finished.
    case exitInHand
    /// The handler outran the time limit and was cut off.
    case timedOut
    /// The handler faulted.
    case faulted(vector: UInt64, errorCode: UInt64, rip: UInt64, address: UInt64)
    /// The handler answered with an error.
    case failed(code: UInt64)
    /// The guest did not answer in time.
    case noAnswer
    /// There is no such vCPU.
    case noSuchProcessor
    /// The VM is not running.
    case notRunning
    /// What the guest wrote as its answer makes no sense.
    case badAnswer
    /// The guest lists more tasks than are taken.
    case tooManyTasks

    /// One line for the user.
    public var description: String {
        switch self {
        case .notOffered: "this VM was started with --symbiotic off"
        case .noModule: "the guest has not loaded symbiotic.ko"
        case .leaving: "the guest's module is being unloaded"
        case .notArmed: "the vCPU takes no symcalls: the guest has it off-line, or its module is not ready"
        case .switchedOff: "symcalls are switched off: one outran its time limit; load the guest's module anew"
        case .nested: "a symcall is already running on the vCPU"
        case .notInLongMode: "the vCPU is not in 64-bit mode"
        case .unknown: "the guest's module does not have this symcall"
        case .needsDoorbell: "this symcall can only be made inside a doorbell's exit"
        case .eventInFlight: "an interrupt or exception is on its way into the guest"
        case .exitInHand: "the guest's instruction could not be finished first"
        case .timedOut: "the guest's handler outran its time limit and was cut off; symcalls are now switched off"
        case .faulted(let vector, let code, let rip, let address):
            "the guest's handler faulted: vector \(vector), error code 0x\(String(code, radix: 16)), RIP 0x\(String(rip, radix: 16)), "
                + "CR2 0x\(String(address, radix: 16))"
        case .failed(let code): "the guest's handler answered with error \(code) (\(SymCallError.guestError(code)))"
        case .noAnswer: "the guest did not answer in time"
        case .noSuchProcessor: "there is no such vCPU"
        case .notRunning: "the VM is not running"
        case .badAnswer: "what the guest answered makes no sense"
        case .tooManyTasks: "the guest lists more tasks than \(SymCallError.mostTasks) or its memory has room for"
        }
    }

    private static func guestError(_ code: UInt64) -> String {
        switch code {
        case 1: "no such symcall"
        case 2: "an argument is out of range"
        case 3: "it needs a doorbell's exit"
        case 4: "a lock was taken, ask again"
        case 5: "there is no shared buffer"
        case 6: "the range is too small"
        default: "not known"
        }
    }
}
