// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization
internal import VMMBase
internal import VMMModel

/// A vCPU: its descriptor, its statistics, and the requests of other threads. The run loop is in VCPU+RunLoop.swift.
final class VCPU: SymbioticVCPU, @unchecked Sendable {
    let handle: KVMVCPU
    let statistics: ExitRecorder
    let clock = VCPUClock()
    private let memory: GuestMemory
    let ports: PIOBus
    let mmio: MMIOBus
    let msrs: MSRBus
    private let ending: TerminationLatch

    /// Bits of `Request` that other threads set. The run loop checks them between two exits.
    private let requests = Atomic<UInt32>(0)
    /// What the vCPU's thread and those that pause it tell each other.
    private let parking = Monitor(Parking())

    private struct Parking {
        /// Number of the latest pause, and of the latest that the vCPU has entered. A thread may request the next pause before the vCPU has resumed
        /// from the one before.
        var pause: UInt64 = 0
        var entered: UInt64 = 0
        /// False when the vCPU has resumed, or the pause has been cancelled.
        var isWanted = false
        var hasEnded = false
    }

    /// Limits the vCPU's time for symcalls that other threads request.
    let pace = SymCallPace()
    /// Ticks in the guest (`statistics.guestTicks`) from which other threads' symcalls are made again. The vCPU's thread only.
    private var guestShareEnd: UInt64 = 0

    /// Ticks since the last exit that belong to exits inside it: those of handlers and of instructions that KVM completed. The vCPU's thread only.
    var nestedTicks: UInt64 = 0
    /// Exits until KVM_RUN stops storing registers. Doorbells come in bursts, so KVM_RUN stores them for some exits after each. The vCPU's thread
    /// only.
    private var exitsWithRegisters = 0
    /// The sets of registers that KVM_RUN stores at an exit (kvm_valid_regs), outside of a session: KVM_SYNC_X86_ bits.
    private(set) var validRegisters: UInt64 = 0

    private enum Request {
        static let end: UInt32 = 1 << 0
        static let pause: UInt32 = 1 << 1
        static let symcall: UInt32 = 1 << 2
    }

    /// The signal that makes KVM_RUN return (KVM API 4.10).
    static let kickSignal = SIGUSR1

    init(
        index: Int, handle: consuming KVMVCPU, memory: GuestMemory, ports: PIOBus, mmio: MMIOBus, symbiotic: SymbioticSetup?,
        ending: TerminationLatch
    ) throws(VMMError) {
        self.handle = handle
        self.memory = memory
        self.ports = ports
        self.mmio = mmio
        msrs = symbiotic.map { MSRBus($0.interface, SymbioticInterface.registers) } ?? MSRBus()
        self.ending = ending
        statistics = try ExitRecorder()
        try super.init(index: index, symbiotic: symbiotic)
    }

    // MARK: Any thread

    /// Ends the machine's run.
    override func end(_ outcome: TerminationReason) {
        requests.bitwiseOr(Request.end, ordering: .sequentiallyConsistent)
        ending.end(outcome)
    }

    /// Requests that the vCPU's thread ends; follow with a kick.
    func requestEnd() {
        requests.bitwiseOr(Request.end, ordering: .sequentiallyConsistent)
        parking.update { $0.isWanted = false }
    }

    /// Requests that the vCPU pauses between two exits; follow with a kick, then `waitUntilParked(until:)`. Not at the same time as `resume()`.
    func requestPause() {
        parking.update { parking in
            parking.pause += 1
            parking.isWanted = true
        }
        requests.bitwiseOr(Request.pause, ordering: .sequentiallyConsistent)
    }

    /// Waits until the vCPU has entered the latest pause, or its thread has ended.
    ///
    /// - Parameter deadline: nanoseconds of CLOCK_MONOTONIC.
    /// - Returns: false if another thread has cancelled the pause, or at the deadline.
    func waitUntilParked(until deadline: UInt64) -> Bool {
        parking.wait(until: deadline) { parking -> Bool? in
            if parking.hasEnded { return true }
            guard parking.isWanted else { return false }
            return parking.entered == parking.pause ? true : nil
        } ?? false
    }

    /// Resumes a paused vCPU, or cancels its pause. Not at the same time as `requestPause()`.
    func resume() {
        requests.bitwiseAnd(~Request.pause, ordering: .sequentiallyConsistent)
        parking.update { $0.isWanted = false }
    }

    /// Makes a running KVM_RUN return, or the next one return at once.
    override func kick(_ thread: Thread) {
        handle.interrupt()
        thread.signal(VCPU.kickSignal)
    }

    /// Requests a symcall on this vCPU; follow with a kick. The vCPU's thread completes the request.
    func submit(_ request: SymCallRequest) {
        symCallEngine?.queue.append(request)
        resubmit()
    }

    /// Makes the vCPU look at its queue of symcalls again; follow with a kick.
    func resubmit() {
        requests.bitwiseOr(Request.symcall, ordering: .sequentiallyConsistent)
    }

    /// Removes a symcall whose thread has stopped waiting.
    func withdraw(_ request: SymCallRequest) {
        symCallEngine?.queue.remove(request)
    }

    // MARK: The vCPU's thread

    override func symcall(_ number: UInt32, _ arguments: SymCallValues = SymCallValues()) throws(SymCallFailure) -> SymCallValues {
        guard let symCallEngine else { throw .notOffered }
        return try symCallEngine.makeSymCall(number, arguments, on: self)
    }

    override func linearAddressBits() -> Int {
        let fiveLevels: UInt64 = 1 << 12  // CR4.LA57
        guard let special = try? handle.specialRegisters() else { return 48 }
        return special.cr4 & fiveLevels != 0 ? 57 : 48
    }

    /// Makes KVM_RUN store these sets of registers at the next exits.
    @inline(__always)
    func storeRegistersAtNextExits(_ sets: UInt64) {
        exitsWithRegisters = 32
        validRegisters = sets
        handle.setValidRegisters(sets)
    }

    /// Counts an exit. After the last exit with registers, KVM_RUN stores none.
    @inline(__always)
    func countExitWithRegisters() {
        guard exitsWithRegisters > 0 else { return }
        exitsWithRegisters &-= 1
        if exitsWithRegisters == 0 { stopStoringRegisters() }
    }

    private func stopStoringRegisters() {
        validRegisters = 0
        handle.setValidRegisters(0)
    }

    /// Counts time in the guest that belongs to a handler.
    func recordNestedGuestTime(since entered: UInt64) {
        let ticks = ckvm_ticks() &- entered
        statistics.recordGuest(ticks: ticks)
        nestedTicks &+= ticks
    }

    /// Whether the guest has announced a reset, so that a triple fault is one.
    var hasAnnouncedReset: Bool {
        SoftReset.isAnnounced(in: memory)
    }

    /// Whether the thread is to end.
    var isEnding: Bool {
        requests.load(ordering: .relaxed) & Request.end != 0
    }

    /// Whether another thread has a request.
    @inline(__always)
    var hasRequests: Bool {
        requests.load(ordering: .relaxed) != 0
    }

    /// Serves the requests of other threads, and counts the time for it. Returns false when the thread is to end.
    func serveRequests() -> Bool {
        let (started, guestBefore, pausedBefore) = (ckvm_ticks(), statistics.guestTicks, clock.pausedTicks)
        let continues = serve()
        clock.recordService(
            ticks: ckvm_ticks() &- started &- (statistics.guestTicks &- guestBefore) &- (clock.pausedTicks &- pausedBefore))
        return continues
    }

    private func serve() -> Bool {
        while true {
            let current = requests.load(ordering: .sequentiallyConsistent)
            if current & Request.end != 0 { return false }
            if current & Request.symcall != 0 {
                requests.bitwiseAnd(~Request.symcall, ordering: .sequentiallyConsistent)
                if current & Request.pause == 0 { makeRequestedSymCalls() }
                continue
            }
            guard current & Request.pause != 0 else { return true }
            handle.recordClockPause()
            clock.beginPause()
            defer { clock.endPause() }
            while requests.load(ordering: .sequentiallyConsistent) & (Request.pause | Request.end) == Request.pause {
                parking.update { $0.entered = $0.pause }
                parking.wait { !$0.isWanted || $0.entered != $0.pause ? true : nil }
            }
        }
    }

    /// Makes the symcalls of other threads, unless the guest has not yet had its share of time since the last ones: half of what those took. Otherwise
    /// requests that follow each other without a pause would keep the vCPU out of the guest. A requesting thread kicks the vCPU again.
    private func makeRequestedSymCalls() {
        guard statistics.guestTicks >= guestShareEnd, let symCallEngine else { return }
        let started = ckvm_ticks()
        symCallEngine.makeRequestedSymCalls(on: self)
        let ended = ckvm_ticks()
        pace.record(from: started, to: ended)
        guestShareEnd = statistics.guestTicks &+ (ended &- started) / 2
    }

    /// Releases the threads that wait for a pause: the vCPU's thread has ended.
    func recordEnd() {
        parking.update { $0.hasEnded = true }
    }
}
