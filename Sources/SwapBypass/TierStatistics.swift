// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase
internal import VMMModel

/// Hits of one tier, and what they took. Any thread; no lock.
final class TierHits: Sendable {
    /// Four buckets to each power of two of nanoseconds.
    private static let bucketCount = 160

    private let count = Atomic<UInt64>(0)
    private let total = Atomic<UInt64>(0)
    private let most = Atomic<UInt64>(0)
    private let buckets = (0..<bucketCount).map { _ in Counter() }

    private final class Counter: Sendable {
        let value = Atomic<UInt64>(0)
    }

    /// Counts a hit without a time.
    func add() {
        count.add()
    }

    /// Counts a hit that began at a time of CLOCK_MONOTONIC.
    func record(since began: UInt64) {
        record(nanoseconds: TickClock.monotonicNanoseconds() &- began)
    }

    /// Counts a hit.
    func record(nanoseconds: UInt64) {
        count.add()
        total.add(nanoseconds)
        buckets[TierHits.bucket(nanoseconds)].value.add()
        var before = most.load(ordering: .relaxed)
        while nanoseconds > before {
            let (exchanged, original) = most.compareExchange(expected: before, desired: nanoseconds, ordering: .relaxed)
            if exchanged { break }
            before = original
        }
    }

    var hits: UInt64 { count.load(ordering: .relaxed) }

    /// The times of the hits that have one.
    var latency: LatencySummary {
        let counts = buckets.enumerated().compactMap { index, bucket -> LatencySummary.Bucket? in
            let count = bucket.value.load(ordering: .relaxed)
            return count == 0 ? nil : LatencySummary.Bucket(upperBound: TierHits.upperBound(index), count: count)
        }
        guard let first = counts.first else { return .empty }
        return LatencySummary(
            total: total.load(ordering: .relaxed), minimum: min(first.upperBound, most.load(ordering: .relaxed)),
            maximum: most.load(ordering: .relaxed), buckets: counts)
    }

    static func bucket(_ nanoseconds: UInt64) -> Int {
        guard nanoseconds >= 4 else { return Int(nanoseconds) }
        let exponent = 63 - nanoseconds.leadingZeroBitCount
        return min((exponent - 1) * 4 + Int(nanoseconds >> UInt64(exponent - 2) & 3), bucketCount - 1)
    }

    static func upperBound(_ bucket: Int) -> UInt64 {
        guard bucket >= 4 else { return UInt64(bucket) }
        let exponent = UInt64(bucket / 4 + 1)
        return (UInt64(bucket % 4) + 5) << (exponent - 2) - 1
    }
}

/// Counters of a store's tiers.
final class TierStatistics: Sendable {
    let memory = TierHits()
    let compressed = TierHits()
    let file = TierHits()
    /// Pages that were decompressed into the window's memory, and pages that came back from the file.
    let decompressed = Atomic<UInt64>(0)
    let returned = Atomic<UInt64>(0)
    /// Pages that went down.
    let toCompressed = Atomic<UInt64>(0)
    let toFile = Atomic<UInt64>(0)
    /// Pages that the guest wrote straight to the file.
    let writtenToFile = Atomic<UInt64>(0)
    /// Moves that a write or a touch of the guest ended.
    let cancelledMoves = Atomic<UInt64>(0)
    /// Moves that the guest did not allow in time.
    let refusedMoves = Atomic<UInt64>(0)
    /// Chunks that could not come back for lack of room.
    let noRoom = Atomic<UInt64>(0)
    let passes = Atomic<UInt64>(0)

    private let recent = Mutex([UInt64](repeating: 0, count: 3))

    /// Seconds of the working sets.
    static let workingSetSeconds = [10, 60, 600]

    /// Pages that the guest has used within these times.
    var workingSetPages: [UInt64] { recent.withLock { $0 } }

    /// Takes the pages by passes since their last access.
    func recordWorkingSet(_ histogram: [UInt64]) {
        let pages = TierStatistics.workingSetSeconds.map { seconds in
            histogram.prefix(Int(Double(seconds) / TierPolicy.passSeconds)).reduce(0, &+)
        }
        recent.withLock { $0 = pages }
        passes.add()
    }
}
