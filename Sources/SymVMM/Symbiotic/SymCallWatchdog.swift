// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase

/// Enforces the time limit of handlers: kicks the vCPU of a handler that exceeds it.
///
/// One thread for each VM. It sleeps while no symcall runs, so the limit costs a symcall one atomic store.
final class SymCallWatchdog: Sendable {
    private static let pollMicroseconds: UInt32 = 20_000
    /// Polls that may find the same handler running: 500 ms. Counted in polls, so a stalled host does not consume the limit.
    private static let pollLimit = 25
    /// Polls without a symcall before the thread sleeps.
    private static let idlePollLimit = 50

    /// What the polls have seen of one vCPU.
    private struct Watch {
        let vcpu: SymbioticVCPU
        let thread: Thread
        var call: UInt64 = 0
        var polls = 0
    }

    private let wakeup: EventNotifier
    private let isAsleep = Atomic<Bool>(true)
    private let isStopping = Atomic<Bool>(false)
    private let thread = Mutex<Thread?>(nil)

    init() throws(VMMError) {
        wakeup = try EventNotifier()
    }

    /// Wakes the thread if it sleeps. On a vCPU's thread, after `SymCallDeadline.start()`.
    @inline(__always)
    func wakeIfAsleep() {
        guard isAsleep.load(ordering: .sequentiallyConsistent) else { return }
        wake()
    }

    private func wake() {
        if isAsleep.exchange(false, ordering: .sequentiallyConsistent) { wakeup.signal() }
    }

    /// Makes the thread. Before a vCPU runs.
    func start(_ vcpus: [(SymbioticVCPU, Thread)]) throws(VMMError) {
        let started = try Thread(.symcallLimit) { [self] in run(vcpus.map { Watch(vcpu: $0.0, thread: $0.1) }) }
        thread.withLock { $0 = started }
    }

    private func run(_ initial: [Watch]) {
        var watches = initial
        while true {
            wakeup.drain()
            var idlePolls = 0
            while idlePolls < SymCallWatchdog.idlePollLimit {
                if isStopping.load(ordering: .relaxed) { return }
                usleep(SymCallWatchdog.pollMicroseconds)
                idlePolls = SymCallWatchdog.poll(&watches) ? 0 : idlePolls + 1
            }
            isAsleep.store(true, ordering: .sequentiallyConsistent)
            // A symcall that started before this store has not woken the thread.
            if SymCallWatchdog.poll(&watches) { wake() }
            if isStopping.load(ordering: .relaxed) { return }
        }
    }

    /// Kicks the vCPUs whose handler has exceeded the limit. True when a symcall runs.
    private static func poll(_ watches: inout [Watch]) -> Bool {
        var isAnyRunning = false
        for index in watches.indices {
            guard let engine = watches[index].vcpu.symCallEngine else { continue }
            let call = engine.deadline.current
            watches[index].polls = call == watches[index].call ? watches[index].polls + 1 : 0
            watches[index].call = call
            guard call != 0 else { continue }
            isAnyRunning = true
            guard watches[index].polls >= pollLimit else { continue }
            engine.deadline.expire(call)
            watches[index].vcpu.kick(watches[index].thread)
        }
        return isAnyRunning
    }

    /// Ends the thread. Before the vCPUs' threads are joined.
    func stop() {
        isStopping.store(true, ordering: .relaxed)
        wakeup.signal()
        thread.withLock { $0.take() }?.join()
    }
}
