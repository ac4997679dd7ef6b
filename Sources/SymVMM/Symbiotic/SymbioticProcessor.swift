// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization

/// One vCPU's side of the symbiotic interface: what it registered, and the symcall that runs on it. All of it belongs to the vCPU's thread,
/// save `deadline` and `isArmed`.
final class SymbioticProcessor: @unchecked Sendable {
    /// How a handler ended.
    enum Ending {
        case returned
        case faulted
    }

    /// Registered by the guest, of the generation below; older ones count as never made.
    private var current = SymbioticRegistration()
    private var generation: UInt64 = 0

    /// The vCPU's state as it was before the first symcall of this exit, while a symcall session lasts.
    var saved: kvm_sync_regs?
    /// The exit is that of the gate; then the registers below are all that is saved, as nothing else is changed.
    var isAtGate = false
    var savedAtGate = kvm_regs()
    /// KVM_MP_STATE_ constant to go back to, when it is not runnable.
    var savedMultiprocessorState: UInt32?
    /// A handler has run in this session: the vCPU is not where `saved` says until the session ends.
    var isDisplaced = false
    /// Bytes by which RIP, as an exit for a doorbell shows it, is behind the instruction's end: 0 or 2. nil: not known, or not always the same.
    private(set) var doorbellAdvance: UInt64?
    private var doorbellAdvanceVaries = false
    /// A handler runs on this vCPU.
    var isActive = false
    /// An exit is being finished: doorbells and returns in it do not count.
    var isFinishing = false
    /// Symcalls made now share a session, which their caller ends.
    var isInSession = false
    /// A doorbell's exit is being answered: symcalls that are not for direct injection may be made.
    var isInDoorbell = false
    /// Set by the return and fail ports.
    private(set) var ending: Ending?
    /// Ticks at which the running handler is cut off; 0 when none runs. Read by the watchdog.
    let deadline = Atomic<UInt64>(0)
    /// Durations of symcalls by number.
    let durations: ExitRecorder
    /// Which task caused which exits.
    let tasks: TaskRecorder

    init() throws(KVMError) {
        durations = try ExitRecorder()
        tasks = try TaskRecorder()
    }

    /// The registration in force.
    func registration(_ interface: SymbioticInterface) -> SymbioticRegistration {
        let present = interface.generation
        if generation != present {
            generation = present
            current = SymbioticRegistration()
            tasks.forget()
        }
        return current
    }

    /// A WRMSR of this vCPU; false is #GP.
    func register(_ interface: SymbioticInterface, _ index: UInt32, _ value: UInt64, addressBits: Int) -> Bool {
        var next = registration(interface)
        let isTaken = next.write(index, value, addressBits: addressBits, hasGlobalPage: interface.globalPage != 0, isPage: interface.isPage)
        guard isTaken else { return false }
        current = next
        if index == SYMBIOTIC_MSR_LOCAL_PAGE { tasks.watch(localPage: value, interface) }
        if index == SYMBIOTIC_MSR_RIP { setLocal(interface, LocalPage.enabled, value == 0 ? 0 : UInt32(1)) }
        return true
    }

    /// Learns how far KVM has moved RIP when it leaves for a doorbell.
    func learnDoorbellAdvance(_ advance: UInt64) {
        let isPossible = advance == 0 || advance == 2
        if !isPossible || (doorbellAdvance != nil && doorbellAdvance != advance) { doorbellAdvanceVaries = true }
        doorbellAdvance = doorbellAdvanceVaries ? nil : advance
    }

    /// The return or fail port was written. False when no handler runs, or the exit is only being finished.
    func noteReturn(_ ending: Ending) -> Bool {
        guard isActive, !isFinishing, self.ending == nil else { return false }
        self.ending = ending
        return true
    }

    /// Takes the handler's end, if it has come.
    func takeEnding() -> Ending? {
        defer { ending = nil }
        return ending
    }

    /// Offsets in the local page (docs/ABI.md, 3.2).
    enum LocalPage {
        static let sequence: UInt64 = 0x020
        static let task: UInt64 = 0x028
        static let enabled: UInt64 = 0x100
        static let active: UInt64 = 0x104
        static let aborts: UInt64 = 0x108
        static let failures: UInt64 = 0x110
        static let completed: UInt64 = 0x118
    }

    /// Writes a 32-bit field of the local page, if there is one.
    func setLocal(_ interface: SymbioticInterface, _ offset: UInt64, _ value: UInt32) {
        let page = registration(interface).localPage
        if page != 0 { try? interface.memory.store(value, at: page + offset) }
    }

    /// Adds one to a 64-bit field of the local page, if there is one.
    func countLocal(_ interface: SymbioticInterface, _ offset: UInt64) {
        let page = registration(interface).localPage
        guard page != 0, let value: UInt64 = try? interface.memory.load(page + offset) else { return }
        try? interface.memory.store(value &+ 1, at: page + offset)
    }
}
