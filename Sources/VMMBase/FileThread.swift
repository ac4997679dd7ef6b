// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// The thread that opens, renames and removes files while a guest runs. No other thread of a VM's process needs these calls then, so the sandbox
/// takes them away from all others.
///
/// In a process without this thread (a command, a test), `perform` calls its closure at once.
package final class FileThread: Sendable {
    /// One closure at a time.
    private struct State {
        var job: Job?
        var isBusy = false
        var isDone = false
    }

    /// SAFETY: the calling thread waits until the closure has returned, so two threads never use what it captures at the same time.
    @safe private struct Job: @unchecked Sendable {
        let body: () -> Void
    }

    private static let current = Mutex<FileThread?>(nil)

    private let state = Monitor(State())
    private let identity = Atomic<UInt>(0)

    private init() {
    }

    /// Makes the thread, which ends with the process. Only the first call has an effect.
    package static func start() throws(VMMError) {
        try current.withLock { current throws(VMMError) in
            guard current == nil else { return }
            let files = FileThread()
            _ = try Thread(.files) { files.run() }
            current = files
        }
    }

    /// Calls `body` on the thread and waits for it. On the thread itself, or without one, calls it at once.
    ///
    /// `body` takes no lock that a caller of this function may hold. Not on a vCPU's thread: a file system may be slow.
    package static func perform<Result: ~Copyable, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        guard let files = current.withLock({ $0 }), files.identity.load(ordering: .acquiring) != UInt(pthread_self()) else {
            return try body()
        }
        var result: Result?
        var failure: Failure?
        files.wait {
            do throws(Failure) {
                result = try body()
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        guard let value = result.take() else { return try body() }
        return value
    }

    private func wait(for body: () -> Void) {
        withoutActuallyEscaping(body) { body in
            let job = Job(body: body)
            state.wait { state -> Bool? in
                guard !state.isBusy else { return nil }
                state.isBusy = true
                return true
            }
            state.update { state in
                state.job = job
                state.isDone = false
            }
            state.wait { $0.isDone ? true : nil }
            state.update { $0.isBusy = false }
        }
    }

    private func run() {
        identity.store(UInt(pthread_self()), ordering: .releasing)
        while true {
            // Under the lock, so that nothing refers to the closure any more when the calling thread continues: it does not escape.
            state.wait { state -> Bool? in
                guard state.job != nil else { return nil }
                state.job?.body()
                state.job = nil
                state.isDone = true
                return true
            }
            // Wakes the calling thread.
            state.update { _ in }
        }
    }
}
