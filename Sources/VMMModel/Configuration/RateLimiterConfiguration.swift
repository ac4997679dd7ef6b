// SPDX-License-Identifier: Apache-2.0

/// A token bucket: at most `size` tokens, which refill evenly within `refillMilliseconds`.
public struct TokenBucketConfiguration: Sendable, Equatable {
    /// Most tokens in the bucket. 0: no limit.
    public var size: UInt64
    /// Milliseconds until an empty bucket is full, at most `refillLimit`. 0: no limit.
    public var refillMilliseconds: UInt64
    /// Tokens that can be used once, before those of the bucket.
    public var oneTimeBurst: UInt64

    /// The longest time to refill a bucket: one day.
    public static let refillLimit: UInt64 = 86_400_000

    /// Describes a bucket.
    public init(size: UInt64, refillMilliseconds: UInt64, oneTimeBurst: UInt64 = 0) {
        self.size = size
        self.refillMilliseconds = refillMilliseconds
        self.oneTimeBurst = oneTimeBurst
    }

    /// A bucket of so many tokens a second.
    public init(perSecond: UInt64) {
        self.init(size: perSecond, refillMilliseconds: 1000)
    }

    /// Whether the bucket limits anything.
    public var isLimit: Bool { size > 0 && refillMilliseconds > 0 }
}

/// Limits of a device in one direction: Firecracker's `RateLimiter`.
public struct RateLimiterConfiguration: Sendable, Equatable {
    /// Bytes; nil: no limit.
    public var bandwidth: TokenBucketConfiguration?
    /// Requests or frames; nil: no limit.
    public var operations: TokenBucketConfiguration?

    /// Describes the limits.
    public init(bandwidth: TokenBucketConfiguration? = nil, operations: TokenBucketConfiguration? = nil) {
        self.bandwidth = bandwidth
        self.operations = operations
    }

    /// The limits after a change. A bucket that the change lacks stays as it is; one without a limit removes the limit.
    public func changed(by change: RateLimiterConfiguration) -> RateLimiterConfiguration {
        RateLimiterConfiguration(
            bandwidth: change.bandwidth.map { $0.isLimit ? $0 : nil } ?? bandwidth,
            operations: change.operations.map { $0.isLimit ? $0 : nil } ?? operations)
    }
}
