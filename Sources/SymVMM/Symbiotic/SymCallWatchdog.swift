// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// Cuts off handlers that outrun the time limit: kicks their vCPU out of the guest.
///
/// One thread a VM, started by the first symcall. It sleeps while there are none, so that a symcall costs it one atomic store.
final class SymCallWatchdog: Sendable {
    /// Nanoseconds that a handler may take.
    static let limit: UInt64 = 500_000_000
    private static let pollMicroseconds: UInt32 = 20_000
    /// Polls without a symcall after which the thread goes to sleep.
    private static let patience = 50

    private let wake: EventNotifier
    private let isAsleep = Atomic<Bool>(true)
    private let isEnding = Atomic<Bool>(false)
    private let thread = Mutex<Thread?>(nil)

    init() throws(KVMError) {
        wake = try EventNotifier()
    }

    /// A symcall starts: makes sure that somebody looks at its deadline. On the vCPU's thread.
    func noteStart() {
        guard isAsleep.load(ordering: .sequentiallyConsistent), isAsleep.exchange(false, ordering: .sequentiallyConsistent) else { return }
        wake.signal()
    }

    /// Starts looking after the vCPUs.
    func start(_ processors: [(VirtualProcessor, Thread)]) throws(KVMError) {
        let started = try Thread(name: "symcall-limit") { [self] in
            while true {
                wake.drain()
                var idle = 0
                while idle < SymCallWatchdog.patience {
                    if isEnding.load(ordering: .relaxed) { return }
                    usleep(SymCallWatchdog.pollMicroseconds)
                    idle = SymCallWatchdog.look(at: processors) ? 0 : idle + 1
                }
                isAsleep.store(true, ordering: .sequentiallyConsistent)
                // One that started while nobody was asleep yet has not woken anybody.
                if SymCallWatchdog.look(at: processors) { noteStart() }
                if isEnding.load(ordering: .relaxed) { return }
            }
        }
        thread.withLock { $0 = started }
    }

    /// Kicks the vCPUs whose time is up. True when some symcall runs.
    private static func look(at processors: [(VirtualProcessor, Thread)]) -> Bool {
        var some = false
        for (processor, thread) in processors {
            guard let deadline = processor.symbiotic?.deadline.load(ordering: .sequentiallyConsistent), deadline != 0 else { continue }
            some = true
            if ckvm_ticks() > deadline { processor.kick(thread) }
        }
        return some
    }

    /// Ends the thread, before the vCPUs' threads are joined.
    func stop() {
        isEnding.store(true, ordering: .relaxed)
        wake.signal()
        thread.withLock { $0.take() }?.join()
    }
}
