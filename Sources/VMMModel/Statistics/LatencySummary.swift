// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// Count, sum, minimum, maximum and histogram of durations in nanoseconds. Summaries can be added.
public struct LatencySummary: Sendable, Equatable {
    /// A histogram bucket: `count` durations above the previous bucket's bound, up to `upperBound`.
    public struct Bucket: Codable, Sendable, Equatable {
        /// Upper bound in nanoseconds, inclusive.
        public let upperBound: UInt64
        /// Number of durations in the bucket.
        public let count: UInt64

        enum CodingKeys: String, CodingKey {
            case upperBound = "up_to_ns"
            case count
        }

        /// Describes a bucket.
        public init(upperBound: UInt64, count: UInt64) {
            self.upperBound = upperBound
            self.count = count
        }
    }

    /// Number of durations: the sum over the buckets.
    public let count: UInt64
    /// Sum of the durations in nanoseconds.
    public let total: UInt64
    /// The minimum in nanoseconds; 0 if there are no durations.
    public let minimum: UInt64
    /// The maximum in nanoseconds; 0 if there are no durations.
    public let maximum: UInt64
    /// The non-empty buckets, in ascending order.
    public let buckets: [Bucket]

    /// No durations.
    public static let empty = LatencySummary(total: 0, minimum: 0, maximum: 0, buckets: [])

    /// Creates a summary; the count is the sum over the buckets.
    public init(total: UInt64, minimum: UInt64, maximum: UInt64, buckets: [Bucket]) {
        self.count = buckets.reduce(0) { $0 &+ $1.count }
        self.total = total
        self.minimum = minimum
        self.maximum = maximum
        self.buckets = buckets
    }

    /// Mean in nanoseconds; 0 if there are no durations.
    public var mean: Double {
        count == 0 ? 0 : Double(total) / Double(count)
    }

    /// The quantile for `fraction` (0 to 1) in nanoseconds: a bucket's upper bound, exact within 6 %, at most the maximum; 0 if there are no
    /// durations.
    public func quantile(_ fraction: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let rank = UInt64(saturating: (Double(count) * min(max(fraction, 0), 1)).rounded(.up))
        var seen: UInt64 = 0
        for bucket in buckets {
            seen &+= bucket.count
            if seen >= max(rank, 1) { return min(bucket.upperBound, maximum) }
        }
        return maximum
    }

    /// Adds two summaries.
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
    /// Adds another summary.
    package mutating func merge(_ other: LatencySummary) {
        self = merged(with: other)
    }
}
