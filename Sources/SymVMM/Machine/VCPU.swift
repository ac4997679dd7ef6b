// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization
internal import VMMBase
internal import VMMModel

/// A vCPU: its descriptor, its statistics, and what other threads ask of it. The run loop is in VCPU+RunLoop.swift.
final class VCPU: SymbioticVCPU, @unchecked Sendable {
    let handle: KVMVCPU
    let statistics: ExitRecorder
    let ports: PIOBus
    let mmio: MMIOBus
    let msrs: MSRBus
    private let ending: TerminationLatch

    /// What other threads ask of the vCPU: bits of `Request`, looked at between two exits.
    private let requests = Atomic<UInt32>(0)
    /// Signalled when a paused vCPU may go on.
    private let resumed: EventNotifier
    /// Signalled when the vCPU has seen that it is to pause.
    private let parked: EventNotifier
    /// Counts pauses, and says which one the vCPU has seen; `.max` when its thread has ended. A vCPU may be asked to pause again before it has
    /// noticed that it was to go on.
    private let pauseNumber = Atomic<UInt64>(0)
    private let seenPauseNumber = Atomic<UInt64>(0)

    /// The symbiotic interface; nil when the guest is not offered one.
    let interface: SymbioticInterface?
    let watchdog: SymCallWatchdog?
    /// Ticks since the last exit that were spent on symcalls inside it and are accounted for there. The vCPU's thread only.
    var nestedTicks: UInt64 = 0
    /// Exits for which KVM_RUN still gives the registers: some after each doorbell, as doorbells come in bursts. The vCPU's thread only.
    private var exitsWithRegisters = 0
    /// The sets of registers that it gives (and has given at the last exit): KVM_SYNC_X86_ bits.
    private(set) var givenRegisters: UInt64 = 0
    /// Symcalls that other threads ask for on this very vCPU.
    private let directRequests = Mutex<[SymCallRequest]>([])

    private enum Request {
        static let end: UInt32 = 1 << 0
        static let pause: UInt32 = 1 << 1
        static let symcall: UInt32 = 1 << 2
    }

    /// The signal that makes KVM_RUN return (KVM API 4.10).
    static let kickSignal = SIGUSR1

    init(
        index: Int, handle: consuming KVMVCPU, ports: PIOBus, mmio: MMIOBus, symbiotic: SymbioticSetup?,
        ending: TerminationLatch
    ) throws(KVMError) {
        self.handle = handle
        self.ports = ports
        self.mmio = mmio
        msrs = symbiotic.map { MSRBus($0.interface, SymbioticInterface.registers) } ?? MSRBus()
        interface = symbiotic?.interface
        watchdog = symbiotic?.watchdog
        self.ending = ending
        statistics = try ExitRecorder()
        resumed = try EventNotifier()
        parked = try EventNotifier()
        super.init(index: index, symbiotic: try symbiotic.map { (_) throws(KVMError) in try SymbioticProcessor() })
    }

    // MARK: Any thread

    /// Ends the machine's run.
    override func end(_ outcome: TerminationReason) {
        requests.bitwiseOr(Request.end, ordering: .sequentiallyConsistent)
        ending.end(outcome)
    }

    /// Asks the vCPU to end its thread; follow with a kick.
    func requestEnd() {
        requests.bitwiseOr(Request.end, ordering: .sequentiallyConsistent)
        resumed.signal()
    }

    /// Asks the vCPU to wait between two exits; follow with a kick, then `waitUntilParked()`.
    func requestPause() {
        pauseNumber.wrappingAdd(1, ordering: .sequentiallyConsistent)
        requests.bitwiseOr(Request.pause, ordering: .sequentiallyConsistent)
    }

    /// Waits until a vCPU that was asked to pause does so, or has ended.
    func waitUntilParked() {
        let number = pauseNumber.load(ordering: .sequentiallyConsistent)
        while true {
            let seen = seenPauseNumber.load(ordering: .sequentiallyConsistent)
            if seen == number || seen == .max { return }
            parked.drain()
        }
    }

    /// Lets a paused vCPU go on.
    func resume() {
        requests.bitwiseAnd(~Request.pause, ordering: .sequentiallyConsistent)
        resumed.signal()
    }

    /// Makes a running KVM_RUN return, or the next one not start.
    override func kick(_ thread: Thread) {
        handle.interrupt()
        thread.signal(VCPU.kickSignal)
    }

    /// Asks for a symcall on this vCPU; follow with a kick. The request is answered on the vCPU's thread.
    func submit(_ request: SymCallRequest) {
        directRequests.withLock { $0.append(request) }
        requests.bitwiseOr(Request.symcall, ordering: .sequentiallyConsistent)
    }

    /// Asks again for what could not be done at once.
    func resubmit() {
        requests.bitwiseOr(Request.symcall, ordering: .sequentiallyConsistent)
    }

    /// Takes a call that nobody waits for any more out of the queue.
    func withdraw(_ request: SymCallRequest) {
        directRequests.withLock { $0.removeAll { $0 === request } }
    }

    // MARK: The vCPU's thread

    override func symcall(_ number: UInt32, _ arguments: SymCallValues = SymCallValues()) throws(SymCallError) -> SymCallValues {
        try makeSymCall(number, arguments)
    }

    override func handleDoorbellWrite(_ number: UInt8) -> Bool {
        enterDoorbell(number)
    }

    override func linearAddressBits() -> Int {
        let fiveLevels: UInt64 = 1 << 12  // CR4.LA57
        guard let special = try? handle.specialRegisters() else { return 48 }
        return special.cr4 & fiveLevels != 0 ? 57 : 48
    }

    /// Makes KVM_RUN give these sets of registers at the next exits.
    @inline(__always)
    func giveRegistersForAWhile(_ sets: UInt64) {
        exitsWithRegisters = 32
        givenRegisters = sets
        handle.setValidRegisters(sets)
    }

    /// One exit is answered; the last of those with registers stops them.
    @inline(__always)
    func countExitWithRegisters() {
        guard exitsWithRegisters > 0 else { return }
        exitsWithRegisters &-= 1
        if exitsWithRegisters == 0 { giveNoRegisters() }
    }

    private func giveNoRegisters() {
        givenRegisters = 0
        handle.setValidRegisters(0)
    }

    /// Whether the thread is to end.
    var isEnding: Bool {
        requests.load(ordering: .relaxed) & Request.end != 0
    }

    /// What other threads ask for, all of it.
    func takeDirectRequests() -> [SymCallRequest] {
        directRequests.withLock { requests in
            defer { requests = [] }
            return requests
        }
    }

    /// A call that can't be made just now; its asker kicks again.
    func putBack(_ request: SymCallRequest) {
        directRequests.withLock { $0.append(request) }
    }

    /// Whether another thread asks something.
    @inline(__always)
    var hasRequests: Bool {
        requests.load(ordering: .relaxed) != 0
    }

    /// Does what was asked. Returns false when the thread is to end.
    func serveRequests() -> Bool {
        while true {
            let asked = requests.load(ordering: .sequentiallyConsistent)
            if asked & Request.end != 0 { return false }
            if asked & Request.symcall != 0 {
                requests.bitwiseAnd(~Request.symcall, ordering: .sequentiallyConsistent)
                if asked & Request.pause == 0 { serveDirectRequests() }
                continue
            }
            guard asked & Request.pause != 0 else { return true }
            handle.recordClockPause()
            while requests.load(ordering: .sequentiallyConsistent) & (Request.pause | Request.end) == Request.pause {
                let number = pauseNumber.load(ordering: .sequentiallyConsistent)
                if seenPauseNumber.exchange(number, ordering: .sequentiallyConsistent) != number { parked.signal() }
                resumed.drain()
            }
        }
    }

    /// Tells those who wait for a pause that the thread is gone.
    func recordEnd() {
        seenPauseNumber.store(.max, ordering: .sequentiallyConsistent)
        parked.signal()
    }
}
