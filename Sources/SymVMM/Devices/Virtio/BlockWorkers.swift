// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The worker threads of an active disk.
///
/// Each takes a request, serves it to its end and takes the next. The notifier wakes one sleeper; it passes the ring on when more is
/// waiting and another one sleeps.
final class BlockWorkers: Sendable {
    private let queue: Virtqueue
    private let server: BlockRequestHandler
    private let name: String
    private let isStopping = Atomic<Bool>(false)
    private let sleepers = Atomic<Int>(0)
    private let threads = Mutex<[Thread]>([])

    init(queue: Virtqueue, server: BlockRequestHandler, name: String) {
        self.queue = queue
        self.server = server
        self.name = name
    }

    func start(workers: Int) throws(KVMError) {
        for number in 0..<workers {
            let thread = try Thread(name: "blk\(number) \(name.utf8.count > 11 ? String(name.dropFirst(11)) : name)") { [self] in work() }
            threads.withLock { $0.append(thread) }
        }
    }

    /// Returns when every worker has finished its request and ended.
    func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        queue.notifier.ring()
        for thread in threads.withLock({ $0 }) { thread.join() }
    }

    private func work() {
        let chain = DescriptorChain()
        while !isStopping.load(ordering: .acquiring) {
            guard queue.pop(into: chain) else {
                sleepUntilRung()
                continue
            }
            // While somebody sleeps, the guest has to ring, and who was rung looks whether there is work for two.
            if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
                if queue.enableNotifications() { queue.notifier.ring() }
            } else {
                queue.disableNotifications()
            }
            if let written = server.serve(chain) {
                queue.push(chain, written: written)
                queue.interruptIfWanted()
            }
        }
        // The ring that woke this worker was for all.
        queue.notifier.ring()
    }

    private func sleepUntilRung() {
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        if !queue.enableNotifications(), !isStopping.load(ordering: .sequentiallyConsistent) { queue.notifier.wait() }
        sleepers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    }
}
