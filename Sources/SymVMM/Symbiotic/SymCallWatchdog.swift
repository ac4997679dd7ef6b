// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase

/// Cuts off handlers that outrun the time limit: kicks their vCPU out of the guest.
///
/// One thread a VM, started by the first symcall. It sleeps while there are none, so that a symcall costs it one atomic store.
final class SymCallWatchdog: Sendable {
    private static let pollMicroseconds: UInt32 = 20_000
    /// Polls that may find the same handler at work: 500 ms, counted in polls so that a process or a host that stood still, and the handler
    /// with it, costs the guest nothing.
    private static let limit = 25
    /// Polls without a symcall after which the thread goes to sleep.
    private static let patience = 50

    /// What the polls have seen of one vCPU.
    private struct Watch {
        let processor: SymbioticVCPU
        let thread: Thread
        var call: UInt64 = 0
        var polls = 0
    }

    private let wake: EventNotifier
    private let isAsleep = Atomic<Bool>(true)
    private let isEnding = Atomic<Bool>(false)
    private let thread = Mutex<Thread?>(nil)

    init() throws(KVMError) {
        wake = try EventNotifier()
    }

    /// A symcall starts: makes sure that somebody looks at its deadline. On the vCPU's thread.
    func recordStart() {
        guard isAsleep.load(ordering: .sequentiallyConsistent), isAsleep.exchange(false, ordering: .sequentiallyConsistent) else { return }
        wake.signal()
    }

    /// Starts looking after the vCPUs.
    func start(_ processors: [(SymbioticVCPU, Thread)]) throws(KVMError) {
        let started = try Thread(name: "symcall-limit") { [self] in
            var watches = processors.map { Watch(processor: $0.0, thread: $0.1) }
            while true {
                wake.drain()
                var idle = 0
                while idle < SymCallWatchdog.patience {
                    if isEnding.load(ordering: .relaxed) { return }
                    usleep(SymCallWatchdog.pollMicroseconds)
                    idle = SymCallWatchdog.look(at: &watches) ? 0 : idle + 1
                }
                isAsleep.store(true, ordering: .sequentiallyConsistent)
                // One that started while nobody was asleep yet has not woken anybody.
                if SymCallWatchdog.look(at: &watches) { recordStart() }
                if isEnding.load(ordering: .relaxed) { return }
            }
        }
        thread.withLock { $0 = started }
    }

    /// Kicks the vCPUs whose time is up. True when some symcall runs.
    private static func look(at watches: inout [Watch]) -> Bool {
        var some = false
        for index in watches.indices {
            guard let symbiotic = watches[index].processor.symbiotic else { continue }
            let call = symbiotic.running.load(ordering: .sequentiallyConsistent)
            watches[index].polls = call == watches[index].call ? watches[index].polls + 1 : 0
            watches[index].call = call
            guard call != 0 else { continue }
            some = true
            guard watches[index].polls >= limit else { continue }
            symbiotic.overdue.store(call, ordering: .relaxed)
            watches[index].processor.kick(watches[index].thread)
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
