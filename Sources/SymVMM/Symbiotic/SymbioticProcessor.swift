// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import SymbioticABI
internal import Synchronization
internal import VMMBase

/// One vCPU's side of the symbiotic interface: what it registered, and the symcall that runs on it. All of it belongs to the vCPU's thread,
/// save `running`, `overdue` and `isArmed`.
@safe final class SymbioticProcessor: @unchecked Sendable {
    /// How a handler ended.
    enum Ending {
        case returned
        case faulted
    }

    /// Registered by the guest, of the generation below; older ones count as never made.
    private var current = SymbioticRegistration()
    private var generation: UInt64 = 0
    /// SAFETY: the local page in guest memory, checked when it was registered; guest memory stays mapped as long as vCPUs run.
    private var localPage: UnsafeMutableRawPointer?

    /// The vCPU's state as it was before the first symcall of this exit, while a symcall session lasts.
    var saved: kvm_sync_regs?
    /// The exit is that of the gate; then the registers below are all that is saved, as nothing else is changed.
    var isAtGate = false
    /// Outside the object, as Swift watches over accesses to its properties by pointer at run time.
    /// SAFETY: allocated and set by the initializer, freed by the deinitializer.
    let savedAtGate: UnsafeMutablePointer<kvm_regs>
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
    /// The number of the symcall whose handler runs, counted from 1; 0 when none does. Read by the watchdog.
    let running = Atomic<UInt64>(0)
    /// The number of a symcall whose handler is to be cut off. Written by the watchdog.
    let overdue = Atomic<UInt64>(0)
    private var calls: UInt64 = 0
    /// Durations of symcalls by number.
    let durations: ExitRecorder
    /// Which task caused which exits.
    let tasks: TaskRecorder

    init() throws(KVMError) {
        durations = try ExitRecorder()
        tasks = try TaskRecorder()
        unsafe savedAtGate = UnsafeMutablePointer.allocate(capacity: 1)
        unsafe savedAtGate.initialize(to: kvm_regs())
    }

    deinit {
        unsafe savedAtGate.deallocate()
    }

    /// A handler starts: its symcall's number.
    func start() -> UInt64 {
        calls &+= 1
        isActive = true
        // Before the look whether the watchdog sleeps, as it looks at this after it has said that it will sleep.
        running.store(calls, ordering: .sequentiallyConsistent)
        return calls
    }

    /// The handler is done, or cut off.
    func finish() {
        running.store(0, ordering: .relaxed)
        isActive = false
    }

    /// The registration in force.
    @inline(__always)
    func registration(_ interface: SymbioticInterface) -> SymbioticRegistration {
        let present = interface.generation
        if generation != present {
            generation = present
            current = SymbioticRegistration()
            unsafe localPage = nil
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
        if index == SYMBIOTIC_MSR_LOCAL_PAGE {
            unsafe localPage = value == 0 ? nil : try? interface.memory.pointer(value, byteCount: Int(GuestMemory.pageSize))
            unsafe tasks.watch(localPage: localPage, interface.generationCounter)
        }
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
    func recordReturn(_ ending: Ending) -> Bool {
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
        static let enabled = Int(SYMBIOTIC_LOCAL_ENABLED)
        static let active = Int(SYMBIOTIC_LOCAL_ACTIVE)
        static let aborts = Int(SYMBIOTIC_LOCAL_ABORTS)
        static let failures = Int(SYMBIOTIC_LOCAL_FAILURES)
        static let completed = Int(SYMBIOTIC_LOCAL_COMPLETED)
    }

    /// Writes a 32-bit field of the local page, if there is one.
    @inline(__always)
    func setLocal(_ interface: SymbioticInterface, _ offset: Int, _ value: UInt32) {
        guard let page = unsafe localBytes(interface) else { return }
        // SAFETY: the offset is one of LocalPage's, within the page and aligned.
        unsafe page.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
    }

    /// Adds one to a 64-bit field of the local page, if there is one.
    @inline(__always)
    func countLocal(_ interface: SymbioticInterface, _ offset: Int) {
        guard let page = unsafe localBytes(interface) else { return }
        // SAFETY: as above.
        unsafe page.storeBytes(of: page.load(fromByteOffset: offset, as: UInt64.self) &+ 1, toByteOffset: offset, as: UInt64.self)
    }

    /// The local page in the VMM's own memory; nil when there is none any more.
    @inline(__always)
    private func localBytes(_ interface: SymbioticInterface) -> UnsafeMutableRawPointer? {
        interface.generation == generation ? unsafe localPage : nil
    }
}
