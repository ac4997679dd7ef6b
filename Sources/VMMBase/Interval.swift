// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A fixed interval that does not drift: the next moment does not depend on how long the work takes.
package struct Interval: Sendable {
    private let nanoseconds: UInt64
    private var next: UInt64

    /// The first moment is `seconds` from now. The interval is clamped to 1 ms ... 1 day.
    package init(seconds: Double) {
        nanoseconds = UInt64(min(max(seconds.isNaN ? 1 : seconds, 0.001), 86_400) * 1e9)
        next = TickClock.monotonicNanoseconds() &+ nanoseconds
    }

    /// Sleeps until the next moment. Skips moments that have passed.
    package mutating func wait() {
        while let rest = remaining { usleep(UInt32(min(rest / 1000 + 1, 500_000))) }
        advance()
    }

    /// Nanoseconds until the next moment; nil if it has passed.
    package var remaining: UInt64? {
        let now = TickClock.monotonicNanoseconds()
        return now < next ? next &- now : nil
    }

    /// Advances the next moment by one interval. Skips moments that have passed.
    package mutating func advance() {
        let now = TickClock.monotonicNanoseconds()
        next &+= nanoseconds
        if next < now { next = now &+ nanoseconds }
    }
}
