// SPDX-License-Identifier: Apache-2.0

/// Count, sum, extremes and a histogram of durations in nanoseconds. Summaries add up: the parts' sum is the whole's.
public struct LatencySummary: Sendable, Equatable {
    /// A histogram's bucket: `count` durations of at most `upperBound` nanoseconds and more than the bucket before.
    public struct Bucket: Sendable, Equatable {
        /// Inclusive, in nanoseconds.
        public let upperBound: UInt64
        /// Durations in the bucket.
        public let count: UInt64

        /// Describes a bucket.
        public init(upperBound: UInt64, count: UInt64) {
            self.upperBound = upperBound
            self.count = count
        }
    }

    /// Number of durations: the sum over the buckets.
    public let count: UInt64
    /// Their sum.
    public let total: UInt64
    /// The shortest, 0 when there is none.
    public let minimum: UInt64
    /// The longest, 0 when there is none.
    public let maximum: UInt64
    /// The buckets that hold something, in rising order.
    public let buckets: [Bucket]

    /// A summary of nothing.
    public static let empty = LatencySummary(total: 0, minimum: 0, maximum: 0, buckets: [])

    /// Puts a summary together; the count is the buckets' sum.
    public init(total: UInt64, minimum: UInt64, maximum: UInt64, buckets: [Bucket]) {
        self.count = buckets.reduce(0) { $0 &+ $1.count }
        self.total = total
        self.minimum = minimum
        self.maximum = maximum
        self.buckets = buckets
    }

    /// Mean in nanoseconds, 0 when there is none.
    public var mean: Double {
        count == 0 ? 0 : Double(total) / Double(count)
    }

    /// The value that `fraction` (0 to 1) of the durations do not exceed: a bucket's upper bound, within the histogram's 6 %, never more than
    /// the longest.
    public func quantile(_ fraction: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let rank = UInt64((Double(count) * min(max(fraction, 0), 1)).rounded(.up))
        var seen: UInt64 = 0
        for bucket in buckets {
            seen &+= bucket.count
            if seen >= max(rank, 1) { return min(bucket.upperBound, maximum) }
        }
        return maximum
    }

    /// The summary of both together.
    public func merged(with other: LatencySummary) -> LatencySummary {
        if count == 0 { return other }
        if other.count == 0 { return self }
        var merged: [Bucket] = []
        merged.reserveCapacity(buckets.count + other.buckets.count)
        var left = buckets[...]
        var right = other.buckets[...]
        while let first = left.first, let second = right.first {
            if first.upperBound == second.upperBound {
                merged.append(Bucket(upperBound: first.upperBound, count: first.count &+ second.count))
                left = left.dropFirst()
                right = right.dropFirst()
            } else if first.upperBound < second.upperBound {
                merged.append(first)
                left = left.dropFirst()
            } else {
                merged.append(second)
                right = right.dropFirst()
            }
        }
        merged += left
        merged += right
        return LatencySummary(
            total: total &+ other.total, minimum: min(minimum, other.minimum), maximum: max(maximum, other.maximum), buckets: merged)
    }
}

extension LatencySummary {
    /// Adds another.
    package mutating func merge(_ other: LatencySummary) {
        self = merged(with: other)
    }
}
