// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// Converts time stamp counter ticks to nanoseconds.
///
/// Measures the rate once, on first use, over the time since the clock was created. The rate then stays fixed: otherwise a duration that a reader has
/// seen could shrink, and histogram bounds could move.
package final class TickClock: Sendable {
    /// Both clocks at one moment.
    private struct Moment {
        let ticks: UInt64
        let nanoseconds: UInt64

        /// Reads both clocks. Takes the best of five tries, since the thread may be preempted between the two reads.
        static func now() -> Moment {
            var best = Moment(ticks: 0, nanoseconds: 0)
            var shortest = UInt64.max
            for _ in 0..<5 {
                let before = ckvm_ticks()
                let nanoseconds = TickClock.monotonicNanoseconds()
                let gap = ckvm_ticks() &- before
                if gap < shortest {
                    shortest = gap
                    best = Moment(ticks: before &+ gap / 2, nanoseconds: nanoseconds)
                }
            }
            return best
        }
    }

    /// Minimum measuring time. A clock read is exact to about 50 ns, which makes the rate exact to 1 in 40,000.
    private static let leastNanoseconds: UInt64 = 2_000_000

    private let start = Moment.now()
    private let rate = Mutex<Double?>(nil)

    /// Creates a clock that starts now.
    package init() {
    }

    /// Nanoseconds of CLOCK_MONOTONIC.
    package static func monotonicNanoseconds() -> UInt64 {
        var time = timespec()
        // SAFETY: the call writes only the variable. CLOCK_MONOTONIC exists on every Linux.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Nanoseconds of CLOCK_MONOTONIC since the clock was created.
    package var elapsedNanoseconds: UInt64 {
        TickClock.monotonicNanoseconds() &- start.nanoseconds
    }

    /// Returns a function that converts durations, always by the same rate. For readers only: the first call may sleep for 2 ms.
    package func scale() -> (UInt64) -> UInt64 {
        let rate = rate.withLock { rate in
            if let rate { return rate }
            let measured = measure()
            rate = measured
            return measured
        }
        return { UInt64(Double($0) * rate) }
    }

    private func measure() -> Double {
        let elapsed = elapsedNanoseconds
        if elapsed < TickClock.leastNanoseconds { usleep(UInt32(TickClock.leastNanoseconds &- elapsed) / 1000 + 1) }
        let now = Moment.now()
        let ticks = now.ticks &- start.ticks
        return ticks > 0 ? Double(now.nanoseconds &- start.nanoseconds) / Double(ticks) : 1
    }
}
