// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization
internal import VMMBase

/// Makes symcalls on one vCPU (docs/ABI.md, section 4). Only the vCPU's thread uses it, except for `queue`, `deadline` and `durations`.
///
/// A *session* is one stop of the vCPU: KVM completes the instruction that caused the exit, the VMM saves the registers, handlers run, and the VMM
/// restores the registers. `stateMachine` has the session's progress. KVM_RUN loads and stores the registers in the run page (KVM API 5,
/// KVM_CAP_SYNC_REGS), so a symcall needs no system call except KVM_RUN.
///
/// The parts that run the vCPU are extensions in the folder Machine.
@safe final class SymCallEngine: @unchecked Sendable {
    let interface: SymbioticInterface
    /// What this vCPU has registered.
    let registration: VCPURegistration
    let watchdog: SymCallWatchdog

    var stateMachine = SymCallStateMachine()
    /// The vCPU's registers before the session's first handler. `SymCallSession.savedRegisters` says which of them are valid.
    ///
    /// A pointer, because Swift checks at run time for overlapping accesses to a class's properties.
    /// SAFETY: `init` allocates and initializes one value, `deinit` frees it.
    let saved: UnsafeMutablePointer<kvm_sync_regs>
    /// How far KVM moves RIP before it exits for a doorbell.
    var doorbellAdvance = DoorbellAdvance()

    /// Symcalls that other threads requested on this vCPU. Any thread.
    let queue = SymCallQueue()
    /// The time limit of the running handler. Any thread.
    let deadline = SymCallDeadline()
    /// Duration of the symcalls by number. Any thread may read it.
    let durations: ExitRecorder

    init(interface: SymbioticInterface, watchdog: SymCallWatchdog, tasks: TaskRecorder) throws(VMMError) {
        self.interface = interface
        self.watchdog = watchdog
        registration = VCPURegistration(interface: interface, tasks: tasks)
        durations = try ExitRecorder()
        // SAFETY: the object owns this one value until deinit.
        unsafe saved = UnsafeMutablePointer.allocate(capacity: 1)
        unsafe saved.initialize(to: kvm_sync_regs())
    }

    deinit {
        // SAFETY: init allocated it, kvm_sync_regs needs no deinitialization, and no caller is left.
        unsafe saved.deallocate()
    }

    /// No session is open: the vCPU's registers are the guest's own. On the vCPU's thread, or while it is parked.
    var isIdle: Bool { stateMachine.state == .idle }

    /// Calls `body`, in which KVM completes the instruction that caused the exit, so that the machine can save its state. The vCPU must be idle.
    /// Doorbells that the guest rings meanwhile are ignored.
    func completingExit<Value>(_ body: () -> Value) -> Value {
        let isOpen = stateMachine.open(.snapshot)
        let isCompleting = isOpen && stateMachine.beginCompletingExit()
        defer {
            if isCompleting { _ = stateMachine.endCompletingExit() }
            if isOpen { _ = stateMachine.close() }
        }
        return body()
    }

    /// The exit is that of a fast doorbell: symcalls change the general registers only.
    @inline(__always)
    var isAtFastDoorbell: Bool { stateMachine.state.session?.savedRegisters == .general }
}

/// How many bytes RIP still moves when KVM completes a doorbell's OUT: 0 or 2, which depends on the host's kernel.
struct DoorbellAdvance: Equatable {
    /// Nil until the VMM has seen it once, and for ever when it varies.
    private(set) var byteCount: UInt64?
    private var varies = false

    /// Records what KVM did at one doorbell.
    mutating func learn(_ advance: UInt64) {
        let isPossible = advance == 0 || advance == 2
        if !isPossible || (byteCount != nil && byteCount != advance) { varies = true }
        byteCount = varies ? nil : advance
    }
}

/// Says which handler runs, and whether it has exceeded its time limit. The vCPU's thread and the watchdog share it.
struct SymCallDeadline: ~Copyable, Sendable {
    /// Number of the running symcall, counted from 1; 0 when none runs.
    private let running = Atomic<UInt64>(0)
    /// Number of the symcall that exceeded its limit.
    private let expired = Atomic<UInt64>(0)
    /// Symcalls started. Only the vCPU's thread writes it.
    private let started = Atomic<UInt64>(0)

    /// A handler starts.
    ///
    /// - Returns: the symcall's number.
    @inline(__always)
    func start() -> UInt64 {
        let call = started.load(ordering: .relaxed) &+ 1
        started.store(call, ordering: .relaxed)
        // Pairs with SymCallWatchdog.run(): we publish the call, then read whether the watchdog sleeps; it publishes that it sleeps, then reads this.
        running.store(call, ordering: .sequentiallyConsistent)
        return call
    }

    /// The handler runs no longer.
    @inline(__always)
    func stop() {
        running.store(0, ordering: .relaxed)
    }

    /// Whether the watchdog has ended a symcall's time.
    @inline(__always)
    func hasExpired(_ call: UInt64) -> Bool {
        expired.load(ordering: .relaxed) == call
    }

    /// The running symcall; 0 when none runs.
    var current: UInt64 { running.load(ordering: .sequentiallyConsistent) }

    /// Ends a symcall's time; follow with a kick.
    func expire(_ call: UInt64) {
        expired.store(call, ordering: .relaxed)
    }
}
