// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase
internal import VMMModel

/// Limits the bytes and the operations of a device in one direction. Any thread.
///
/// It never waits: the device's own thread does, with a timer, so that no vCPU and no other device waits.
final class RateLimiter: Sendable {
    private struct State {
        var bandwidth: TokenBucket?
        var operations: TokenBucket?
    }

    private let state: Mutex<State>
    private let clock: @Sendable () -> UInt64
    private let limited: Atomic<Bool>
    private let throttled = Atomic<UInt64>(0)

    /// Creates a limiter with full buckets.
    ///
    /// - Parameter clock: returns nanoseconds and never goes back. Tests inject one.
    init(_ configuration: RateLimiterConfiguration?, clock: @escaping @Sendable () -> UInt64 = TickClock.monotonicNanoseconds) {
        self.clock = clock
        let now = clock()
        let first = State(
            bandwidth: TokenBucket(configuration?.bandwidth, now: now), operations: TokenBucket(configuration?.operations, now: now))
        state = Mutex(first)
        limited = Atomic(first.bandwidth != nil || first.operations != nil)
    }

    /// Whether there is a limit.
    @inline(__always)
    var isLimited: Bool { limited.load(ordering: .acquiring) }

    /// How often an operation had to wait.
    var throttledCount: UInt64 { throttled.load(ordering: .relaxed) }

    /// Takes the tokens of one operation, or none.
    ///
    /// - Returns: nil if it has taken them; else the time, by the clock, at which to try again (`.max`: not in the clock's range).
    func take(bytes: UInt64) -> UInt64? {
        guard isLimited else { return nil }
        return state.withLock { state -> UInt64? in
            let now = clock()
            state.bandwidth?.refill(now: now)
            state.operations?.refill(now: now)
            let wait = max(state.bandwidth?.wait(for: bytes) ?? 0, state.operations?.wait(for: 1) ?? 0)
            guard wait == 0 else {
                let (time, isOver) = now.addingReportingOverflow(wait)
                return isOver ? .max : time
            }
            state.bandwidth?.take(bytes)
            state.operations?.take(1)
            return nil
        }
    }

    /// Takes tokens for bytes whose number was not known before the operation.
    func charge(bytes: UInt64) {
        guard isLimited else { return }
        state.withLock { state in
            state.bandwidth?.refill(now: clock())
            state.bandwidth?.take(bytes)
        }
    }

    /// Counts an operation that has to wait.
    func countThrottled() {
        throttled.wrappingAdd(1, ordering: .relaxed)
    }

    /// Replaces buckets by new, full ones. A bucket that the change lacks stays as it is; one without a limit removes the limit.
    func update(_ change: RateLimiterConfiguration) {
        state.withLock { state in
            let now = clock()
            if let bandwidth = change.bandwidth { state.bandwidth = TokenBucket(bandwidth, now: now) }
            if let operations = change.operations { state.operations = TokenBucket(operations, now: now) }
            limited.store(state.bandwidth != nil || state.operations != nil, ordering: .releasing)
        }
    }
}
