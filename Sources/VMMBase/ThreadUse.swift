// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// What the host's scheduler counts for one thread. The thread itself calls `begin()` and `end()`; any thread reads.
///
/// Keeps the thread's two files in /proc open, so that a reader needs no path. Without /proc, as in some jails, there is the processor time
/// at the end only.
package final class ThreadUse: Sendable {
    /// Nanoseconds; nil if this host does not count it.
    package struct Times: Sendable, Equatable {
        /// From `begin()` until now, or `end()`.
        package var wallNanoseconds: UInt64 = 0
        /// On a processor, in the guest or not (proc(5), schedstat).
        package var runNanoseconds: UInt64?
        /// Runnable, while other threads had the processors (proc(5), schedstat).
        package var delayNanoseconds: UInt64?
        /// On a processor in the guest. The kernel samples it at timer ticks (proc(5), stat).
        package var guestNanoseconds: UInt64?
        /// Whether the thread is on a processor or waits for one. The kernel adds such a wait to the delay at its end.
        package var isRunnable = false
    }

    private struct State: ~Copyable {
        var began: UInt64?
        var schedule: OwnedFileDescriptor?
        var status: OwnedFileDescriptor?
        /// The times at the end; nil before it.
        var last: Times?
    }

    private let state = Mutex(State())

    /// A thread that has not begun.
    package init() {
    }

    /// Begins to count the calling thread.
    package func begin() {
        state.withLock { state in
            state.began = TickClock.monotonicNanoseconds()
            state.schedule = try? OwnedFileDescriptor.open("/proc/thread-self/schedstat", O_RDONLY)
            state.status = try? OwnedFileDescriptor.open("/proc/thread-self/stat", O_RDONLY)
        }
    }

    /// Ends counting: the thread is about to end.
    package func end() {
        state.withLock { state in
            state.last = ThreadUse.times(state)
            state.schedule = nil
            state.status = nil
        }
    }

    /// The times so far; zero before the thread has begun.
    package var times: Times {
        state.withLock { state in state.last ?? ThreadUse.times(state) }
    }

    private static func times(_ state: borrowing State) -> Times {
        guard let began = state.began else { return Times() }
        var times = Times()
        // The files first: what they count has then happened within the wall time.
        if let schedule = text(state.schedule) { (times.runNanoseconds, times.delayNanoseconds) = parse(schedule: schedule) }
        if let status = text(state.status) { (times.guestNanoseconds, times.isRunnable) = parse(status: status) }
        times.wallNanoseconds = TickClock.monotonicNanoseconds() &- began
        return times
    }

    /// What the file contains now; nil if it is not open or cannot be read.
    private static func text(_ file: borrowing OwnedFileDescriptor?) -> String? {
        let number: Int32
        switch file {
        case .some(let file): number = file.rawValue
        case .none: return nil
        }
        var bytes = [UInt8](repeating: 0, count: 1024)
        // SAFETY: the array has this many bytes.
        let count = unsafe pread(number, &bytes, bytes.count, 0)
        return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }

    /// Time on a processor, time runnable, and a number of time slices.
    static func parse(schedule: String) -> (run: UInt64?, delay: UInt64?) {
        let fields = schedule.split(whereSeparator: \.isWhitespace)
        guard fields.count >= 2, let run = UInt64(fields[0]), let delay = UInt64(fields[1]) else { return (nil, nil) }
        return (run, delay)
    }

    /// The state, field 3, and guest_time, field 43, in clock ticks. The name, field 2, may contain anything.
    static func parse(status: String) -> (guest: UInt64?, isRunnable: Bool) {
        guard let end = status.lastIndex(of: ")") else { return (nil, false) }
        let fields = status[status.index(after: end)...].split(separator: " ")
        guard fields.count > 40, let ticks = UInt64(fields[40]) else { return (nil, false) }
        let (time, overflow) = ticks.multipliedReportingOverflow(by: 1_000_000_000 / UInt64(max(sysconf(Int32(_SC_CLK_TCK)), 1)))
        return (overflow ? nil : time, fields[0] == "R")
    }
}
