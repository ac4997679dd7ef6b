// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// A vCPU: its descriptor, its statistics, and what other threads ask of it. The run loop is in VirtualProcessor+RunLoop.swift.
public final class VirtualProcessor: @unchecked Sendable {
    /// Number of the vCPU, from 0; also its APIC id.
    public let index: Int

    let handle: VirtualProcessorHandle
    let statistics: ExitRecorder
    let ports: PortBus
    let mmio: MMIOBus
    let msrs: MSRBus
    private let ending: MachineEnding

    /// What other threads ask of the vCPU: bits of `Request`, looked at between two exits.
    private let requests = Atomic<UInt32>(0)
    /// Signalled when a paused vCPU may go on.
    private let resumed: EventNotifier
    /// Signalled when the vCPU has seen that it is to pause.
    private let parked: EventNotifier

    private enum Request {
        static let end: UInt32 = 1 << 0
        static let pause: UInt32 = 1 << 1
    }

    /// The signal that makes KVM_RUN return (KVM API 4.10).
    static let kickSignal = SIGUSR1

    init(index: Int, handle: consuming VirtualProcessorHandle, ports: PortBus, mmio: MMIOBus, msrs: MSRBus, ending: MachineEnding)
        throws(KVMError)
    {
        self.index = index
        self.handle = handle
        self.ports = ports
        self.mmio = mmio
        self.msrs = msrs
        self.ending = ending
        statistics = try ExitRecorder()
        resumed = try EventNotifier()
        parked = try EventNotifier()
    }

    // MARK: Any thread

    /// Ends the machine's run: the guest asked for it, or cannot go on. A device calls it while it takes a write.
    public func end(_ outcome: MachineOutcome) {
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
        requests.bitwiseOr(Request.pause, ordering: .sequentiallyConsistent)
    }

    /// Waits until a vCPU that was asked to pause does so, or has ended.
    func waitUntilParked() {
        while parked.drain() == 0 {}
    }

    /// Lets a paused vCPU go on.
    func resume() {
        requests.bitwiseAnd(~Request.pause, ordering: .sequentiallyConsistent)
        resumed.signal()
    }

    /// Makes a running KVM_RUN return, or the next one not start.
    func kick(_ thread: Thread) {
        handle.interrupt()
        thread.signal(VirtualProcessor.kickSignal)
    }

    // MARK: The vCPU's thread

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
            guard asked & Request.pause != 0 else { return true }
            handle.noteClockPause()
            parked.signal()
            while requests.load(ordering: .sequentiallyConsistent) & (Request.pause | Request.end) == Request.pause {
                resumed.drain()
            }
        }
    }

    /// Tells those who wait for a pause that the thread is gone.
    func noteEnded() {
        parked.signal()
    }
}
