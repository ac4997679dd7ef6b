// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// Turns ticks of the time stamp counter into nanoseconds.
///
/// The rate is measured when it is first asked for, between the clock's making and then, and stays: a time that a reader has seen must not
/// get shorter in the next picture, nor a histogram's bounds move, as they would with a rate that gets better all the time.
package final class TickClock: Sendable {
    /// The two clocks at one moment.
    private struct Moment {
        let ticks: UInt64
        let nanoseconds: UInt64

        /// Reads both so that they belong together: the best of some tries, for the thread may be interrupted between the two.
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

    /// The least time over which the rate is measured: reading the clocks is exact to some 50 ns, so the rate to 1 in 40,000 then.
    private static let leastNanoseconds: UInt64 = 2_000_000

    private let start = Moment.now()
    private let rate = Mutex<Double?>(nil)

    /// Begins now.
    package init() {
    }

    /// Nanoseconds of CLOCK_MONOTONIC.
    package static func monotonicNanoseconds() -> UInt64 {
        var time = timespec()
        // SAFETY: the call writes only the variable. CLOCK_MONOTONIC exists on every Linux.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Nanoseconds of CLOCK_MONOTONIC since this clock was made.
    package var elapsedNanoseconds: UInt64 {
        TickClock.monotonicNanoseconds() &- start.nanoseconds
    }

    /// A function that scales durations, always the same. Readers only: the first call may wait two milliseconds.
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
