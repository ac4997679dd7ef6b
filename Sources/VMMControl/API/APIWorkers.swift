// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMAPI
internal import VMMBase

/// The threads that execute the API's requests: a few for each lane, and a bounded queue for each lane. Thread-safe.
final class APIWorkers: Sendable {
    /// A request to execute.
    typealias Job = @Sendable () -> Void

    private struct Queue {
        var jobs: [Job] = []
        var isEnding = false
    }

    /// Threads of the lane `life`: while one waits for the vCPUs to pause, the other ends the VM.
    private static let lifeThreads = 2

    private let life = Monitor(Queue())
    private let work = Monitor(Queue())
    private let limit: Int
    private let threads = Mutex<[Thread]>([])

    /// Makes the threads.
    ///
    /// - Parameter limit: most requests that wait in a lane.
    init(limit: Int) throws(VMMError) {
        self.limit = limit
        do throws(VMMError) {
            for number in 0..<APIWorkers.lifeThreads { try add(.apiLife, "\(number)", life) }
            try add(.apiWork, "", work)
        } catch {
            stop()
            throw error
        }
    }

    private func add(_ role: ThreadRole, _ label: String, _ queue: Monitor<Queue>) throws(VMMError) {
        let thread = try Thread(role, label) {
            while let job = APIWorkers.next(queue) { job() }
        }
        threads.withLock { $0.append(thread) }
    }

    /// Waits for the oldest request; nil when the thread is to end.
    private static func next(_ queue: Monitor<Queue>) -> Job? {
        queue.wait { queue -> Job?? in
            if queue.isEnding { return .some(nil) }
            return queue.jobs.isEmpty ? nil : .some(queue.jobs.removeFirst())
        }
    }

    /// Queues a request. Returns false if too many are waiting, or after `stop()`.
    func submit(to lane: APILane, _ job: @escaping Job) -> Bool {
        let queue = lane == .life ? life : work
        return queue.update { queue in
            guard queue.jobs.count < limit, !queue.isEnding else { return false }
            queue.jobs.append(job)
            return true
        }
    }

    /// Waits for the requests that are being executed, drops those that wait, and ends the threads. Not on one of them.
    func stop() {
        for queue in [life, work] {
            queue.update { queue in
                queue.isEnding = true
                queue.jobs = []
            }
        }
        for thread in threads.withLock({ $0 }) { thread.join() }
    }
}
