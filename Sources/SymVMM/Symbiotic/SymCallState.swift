// SPDX-License-Identifier: Apache-2.0

/// What a vCPU does with symcalls.
///
///     idle ──open──▶ ready ──startHandler──▶ running ──recordHandlerEnd──▶ handlerEnded
///      ▲             │ │ ▲                     │  └──────abort──────▶ aborting    │
///      │             │ │ └───────────────finishHandler──────────────────┴─────────┘
///      └────close────┘ │
///                      └─beginCompletingExit─▶ completingExit ─endCompletingExit─▶ ready
///
/// `SymCallStateMachine` makes the transitions.
enum SymCallState: Equatable, Sendable {
    /// No session is open: KVM_RUN runs the guest's own code.
    case idle
    /// KVM completes the instruction that caused the exit. The registers are not final yet.
    case completingExit(SymCallSession)
    /// The vCPU is stopped between two instructions. A symcall may start.
    case ready(SymCallSession)
    /// A handler runs in the guest.
    case running(SymCallSession)
    /// The handler has written to the return port or to the fail port.
    case handlerEnded(SymCallSession, SymCallHandlerEnd)
    /// The handler exceeded its time limit. KVM completes the handler's last instruction.
    case aborting(SymCallSession)

    /// The open session; nil when idle.
    var session: SymCallSession? {
        switch self {
        case .idle: nil
        case .completingExit(let session), .ready(let session), .running(let session), .handlerEnded(let session, _),
            .aborting(let session):
            session
        }
    }
}

/// How a handler ended.
enum SymCallHandlerEnd: Equatable, Sendable {
    /// It wrote to the return port.
    case returned
    /// Its exception handler wrote to the fail port.
    case faulted
}

/// The symcalls made in one stop of the vCPU. The VMM saves the vCPU's registers once, before the first handler runs, and restores them once, when
/// the session closes.
struct SymCallSession: Equatable, Sendable {
    /// Why the session was opened.
    enum Trigger: Equatable, Sendable {
        /// The guest's kernel rang a doorbell. Every symcall is allowed.
        case doorbell
        /// Another thread requested symcalls on this vCPU.
        case request
        /// A device makes a symcall while it handles an exit.
        case device
        /// The machine saves its state. No symcall is made.
        case snapshot
    }

    /// Which registers the VMM has saved.
    enum SavedRegisters: Equatable, Sendable {
        case none
        /// The general registers, RIP and RFLAGS: all that a symcall changes at a fast doorbell.
        case general
        /// Also segments, control registers and pending events.
        case all
    }

    let trigger: Trigger
    var savedRegisters = SavedRegisters.none
    /// A handler has run, so the vCPU's registers differ from the saved ones.
    var hasRunHandler = false
    /// The vCPU was halted. It waits in HLT again when the session closes.
    var wasHalted = false
}

/// Makes the transitions of `SymCallState`. A transition that the present state does not allow changes nothing and returns false or nil.
struct SymCallStateMachine {
    private(set) var state = SymCallState.idle

    /// Opens a session.
    @inline(__always)
    mutating func open(_ trigger: SymCallSession.Trigger) -> Bool {
        guard case .idle = state else { return false }
        state = .ready(SymCallSession(trigger: trigger))
        return true
    }

    /// KVM starts to complete the instruction that caused the exit: before registers are saved.
    mutating func beginCompletingExit() -> Bool {
        guard case .ready(let session) = state, session.savedRegisters == .none else { return false }
        state = .completingExit(session)
        return true
    }

    /// KVM has completed the instruction, or the VMM gives up.
    mutating func endCompletingExit() -> Bool {
        guard case .completingExit(let session) = state else { return false }
        state = .ready(session)
        return true
    }

    /// The VMM has saved registers. Once in a session.
    @inline(__always)
    mutating func save(_ registers: SymCallSession.SavedRegisters) -> Bool {
        guard case .ready(var session) = state, session.savedRegisters == .none, registers != .none else { return false }
        session.savedRegisters = registers
        state = .ready(session)
        return true
    }

    /// The vCPU waited in HLT, and the VMM has made it runnable for the handlers. Before the first of them.
    mutating func recordHalt() -> Bool {
        guard case .ready(var session) = state, !session.hasRunHandler else { return false }
        session.wasHalted = true
        state = .ready(session)
        return true
    }

    /// A handler starts. The registers must have been saved.
    @inline(__always)
    mutating func startHandler() -> Bool {
        guard case .ready(var session) = state, session.savedRegisters != .none else { return false }
        session.hasRunHandler = true
        state = .running(session)
        return true
    }

    /// The handler has written to one of its two ports. Only the first write counts.
    @inline(__always)
    mutating func recordHandlerEnd(_ end: SymCallHandlerEnd) -> Bool {
        guard case .running(let session) = state else { return false }
        state = .handlerEnded(session, end)
        return true
    }

    /// The handler exceeded its time limit.
    mutating func abort() -> Bool {
        guard case .running(let session) = state else { return false }
        state = .aborting(session)
        return true
    }

    /// The VMM has saved all registers instead of the general ones, because the aborted handler may have changed any of them.
    mutating func saveAllRegistersWhileAborting() -> Bool {
        guard case .aborting(var session) = state, session.savedRegisters == .general else { return false }
        session.savedRegisters = .all
        state = .aborting(session)
        return true
    }

    /// The handler runs no longer: it ended, the VMM aborted it, or KVM cannot run it.
    @inline(__always)
    mutating func finishHandler() -> Bool {
        switch state {
        case .running(let session), .handlerEnded(let session, _), .aborting(let session):
            state = .ready(session)
            return true
        case .idle, .completingExit, .ready:
            return false
        }
    }

    /// Closes the session.
    ///
    /// - Returns: the session, which says what to restore.
    @inline(__always)
    mutating func close() -> SymCallSession? {
        guard case .ready(let session) = state else { return nil }
        state = .idle
        return session
    }
}
