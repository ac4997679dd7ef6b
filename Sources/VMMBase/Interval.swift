// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Moments at a fixed distance from each other, however long the work between them takes.
package struct Interval: Sendable {
    private let nanoseconds: UInt64
    private var next: UInt64

    /// The first moment is `seconds` from now. What is shorter than a millisecond is a millisecond; at most a day.
    package init(seconds: Double) {
        nanoseconds = UInt64(min(max(seconds.isNaN ? 1 : seconds, 0.001), 86_400) * 1e9)
        next = TickClock.monotonicNanoseconds() &+ nanoseconds
    }

    /// Waits for the next moment; those that have been missed are left out.
    package mutating func wait() {
        while let rest = remaining { usleep(UInt32(min(rest / 1000 + 1, 500_000))) }
        advance()
    }

    /// Nanoseconds until the next moment; nil when it has come.
    package var remaining: UInt64? {
        let now = TickClock.monotonicNanoseconds()
        return now < next ? next &- now : nil
    }

    /// The next moment has been served: the one after it is the next.
    package mutating func advance() {
        let now = TickClock.monotonicNanoseconds()
        next &+= nanoseconds
        if next < now { next = now &+ nanoseconds }
    }
}
