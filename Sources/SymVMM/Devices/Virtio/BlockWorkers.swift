// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The worker threads of a disk. They live as long as the disk; while it is not active, they are parked.
///
///     parked -- start(job) --> working -- stop(): each completes its request --> parked -- end() --> ended
///
/// Each worker completes one request after the other. The notifier wakes one sleeping worker. That worker rings the notifier again if more
/// requests are waiting and another worker sleeps.
///
/// `start` makes no thread and does not wait. `stop` waits for the requests in flight only: at most one of each worker.
final class BlockWorkers: Sendable {
    /// The queue to serve, and how.
    struct Job: Sendable {
        let queue: Virtqueue
        let server: BlockRequestHandler
        let limiter: RateLimiter
    }

    private struct State {
        var job: Job?
        /// Counts the calls of `start`, so that a worker takes each job once.
        var number: UInt64 = 0
        /// Workers that have not finished the job.
        var working = 0
        /// A worker waits for the tokens of the next request, or takes it.
        var isAdmitting = false
        /// Counts the changes of the limits.
        var changes: UInt64 = 0
        var isEnding = false
    }

    private let count: Int
    private let state = Monitor(State())
    /// Set from `stop` until the next `start`: workers take no further request.
    private let isStopping = Atomic<Bool>(true)
    private let sleepers = Atomic<Int>(0)
    private let threads = Mutex<[Thread]>([])

    /// Makes the threads, parked. The caller calls `end()` before it releases the object.
    ///
    /// - Parameter name: the disk's identifier, for the threads' names.
    init(count: Int, name: String) throws(VMMError) {
        self.count = count
        for number in 0..<count {
            do throws(VMMError) {
                let thread = try Thread(.block, "\(number) \(name)") { [self] in run() }
                threads.withLock { $0.append(thread) }
            } catch {
                end()
                throw error
            }
        }
    }

    /// Serves a queue. The workers are parked.
    func start(_ job: Job) {
        isStopping.store(false, ordering: .sequentiallyConsistent)
        state.update { state in
            state.job = job
            state.number += 1
            state.working = count
        }
    }

    /// Returns when each worker has completed its request and is parked. Does nothing if they are parked.
    func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        // An update, not only a look: a worker that waits for tokens must look at `isStopping` again.
        state.update { $0.job?.queue }?.notifier.ring()
        let job = state.wait { state -> Job?? in
            guard state.working == 0 else { return nil }
            defer { state.job = nil }
            return .some(state.job)
        }
        // Released outside the lock: it may be the last reference to the storage.
        _ = job
    }

    /// Makes a worker that waits for tokens look at the limits again.
    func limitsChanged() {
        state.update { $0.changes += 1 }
    }

    /// Stops and joins the threads.
    func end() {
        stop()
        state.update { $0.isEnding = true }
        for thread in threads.withLock({ $0 }) { thread.join() }
    }

    // MARK: The workers' threads

    private func run() {
        let chain = DescriptorChain()
        var last: UInt64 = 0
        while let number = serveJob(after: last, chain) {
            last = number
            state.update { $0.working -= 1 }
        }
    }

    /// Waits for the job after number `last`, and serves it until `stop()`. Holds no reference to the job when it returns.
    ///
    /// - Returns: the job's number; nil when the thread is to end.
    private func serveJob(after last: UInt64, _ chain: DescriptorChain) -> UInt64? {
        let next = state.wait { state -> (UInt64, Job)?? in
            if state.isEnding { return .some(nil) }
            guard let job = state.job, state.number != last else { return nil }
            return .some((state.number, job))
        }
        guard let (number, job) = next else { return nil }
        serve(job, chain)
        return number
    }

    private func serve(_ job: Job, _ chain: DescriptorChain) {
        let queue = job.queue
        while !isStopping.load(ordering: .acquiring) {
            guard job.limiter.isLimited ? admit(job, chain) : queue.pop(into: chain) else {
                sleepUntilRung(queue)
                continue
            }
            // Notifications are enabled while a worker sleeps. This worker rings for the sleeping one if there are more requests.
            if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
                if queue.enableNotifications() { queue.notifier.ring() }
            } else {
                queue.disableNotifications()
            }
            if let written = job.server.serve(chain) {
                queue.push(chain, written: written)
                queue.interruptIfWanted()
            }
        }
        // Ring again, so that every worker wakes and parks.
        queue.notifier.ring()
    }

    /// Takes the next request when it has its tokens. One worker at a time, so that each request is paid once, and they start in the guest's order.
    ///
    /// The request stays in the guest's ring while it waits: a stop loses nothing. Returns false if there is no request, or at a stop.
    private func admit(_ job: Job, _ chain: DescriptorChain) -> Bool {
        let isNext = state.wait { state -> Bool? in
            if isStopping.load(ordering: .acquiring) { return false }
            guard !state.isAdmitting else { return nil }
            state.isAdmitting = true
            return true
        }
        guard isNext else { return false }
        defer { state.update { $0.isAdmitting = false } }
        var hasWaited = false
        while !isStopping.load(ordering: .acquiring), let position = job.queue.peek(into: chain) {
            let changes = state.withLock { $0.changes }
            guard let time = job.limiter.take(bytes: BlockRequestHandler.byteCount(of: chain)) else {
                if job.queue.take(at: position) { return true }
                continue
            }
            if !hasWaited { job.limiter.countThrottled() }
            hasWaited = true
            _ = state.wait(until: time) { $0.changes != changes || isStopping.load(ordering: .acquiring) ? true : nil }
        }
        return false
    }

    private func sleepUntilRung(_ queue: Virtqueue) {
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        if !queue.enableNotifications(), !isStopping.load(ordering: .sequentiallyConsistent) { queue.notifier.wait() }
        sleepers.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    }
}
