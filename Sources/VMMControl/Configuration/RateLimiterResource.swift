// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMBase
internal import VMMModel

/// Firecracker's `TokenBucket`.
struct TokenBucketResource: APIResource {
    var size: Int64
    var refillTime: Int64
    var oneTimeBurst: Int64?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case size
        case refillTime = "refill_time"
        case oneTimeBurst = "one_time_burst"
    }

    init(_ bucket: TokenBucketConfiguration) {
        size = Int64(clamping: bucket.size)
        refillTime = Int64(clamping: bucket.refillMilliseconds)
        oneTimeBurst = Int64(clamping: bucket.oneTimeBurst)
    }
}

/// Firecracker's `RateLimiter`. A bucket with size 0 or refill_time 0 limits nothing.
struct RateLimiterResource: APIResource {
    var bandwidth: Strict<TokenBucketResource>?
    var operations: Strict<TokenBucketResource>?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case bandwidth
        case operations = "ops"
    }

    init(_ limiter: RateLimiterConfiguration) {
        bandwidth = limiter.bandwidth.map { Strict(TokenBucketResource($0)) }
        operations = limiter.operations.map { Strict(TokenBucketResource($0)) }
    }
}

extension RateLimiterConfiguration {
    /// A change that a client describes; nil stays nil. Buckets without a limit stay, since they remove a limit.
    init?(changing received: Received<RateLimiterResource>?) throws(VMMError) {
        guard let received else { return nil }
        self.init(
            bandwidth: try TokenBucketConfiguration(received.part(.bandwidth, received.bandwidth)),
            operations: try TokenBucketConfiguration(received.part(.operations, received.operations)))
    }

    /// Nil stays nil, and so do limits that limit nothing.
    init?(setting received: Received<RateLimiterResource>?) throws(VMMError) {
        guard let change = try RateLimiterConfiguration(changing: received) else { return nil }
        let limits = RateLimiterConfiguration().changed(by: change)
        guard limits != RateLimiterConfiguration() else { return nil }
        self = limits
    }
}

extension TokenBucketConfiguration {
    fileprivate init?(_ received: Received<TokenBucketResource>?) throws(VMMError) {
        guard let received else { return nil }
        let longest = Int(TokenBucketConfiguration.refillLimit)
        let size = try received.integer(.size, received.size, in: 0...Int.max)
        let time = try received.integer(.refillTime, received.refillTime, in: 0...longest)
        let burst = try received.integer(.oneTimeBurst, received.oneTimeBurst, in: 0...Int.max)
        self.init(
            size: UInt64(clamping: size ?? 0), refillMilliseconds: UInt64(clamping: time ?? 0), oneTimeBurst: UInt64(clamping: burst ?? 0))
    }
}
