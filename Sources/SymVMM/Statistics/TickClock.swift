// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// Turns ticks of the time stamp counter into nanoseconds: compares the two clocks since it was made, so its rate gets better with time.
struct TickClock: Sendable {
    private let startTicks: UInt64
    private let startNanoseconds: UInt64

    init() {
        startTicks = ckvm_ticks()
        startNanoseconds = TickClock.monotonicNanoseconds()
    }

    /// Nanoseconds of CLOCK_MONOTONIC.
    static func monotonicNanoseconds() -> UInt64 {
        var time = timespec()
        // SAFETY: the call writes only the variable. CLOCK_MONOTONIC exists on every Linux.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Nanoseconds of CLOCK_MONOTONIC since this clock was made.
    var elapsedNanoseconds: UInt64 {
        TickClock.monotonicNanoseconds() &- startNanoseconds
    }

    /// A function that scales durations at the rate measured so far. One call for one picture, so that all its numbers agree.
    func scale() -> (UInt64) -> UInt64 {
        let ticks = Double(ckvm_ticks() &- startTicks)
        let rate = ticks > 0 ? Double(elapsedNanoseconds) / ticks : 1
        return { UInt64(Double($0) * rate) }
    }
}
