// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

/// A bucket of tokens that refills with time. Exact: it counts parts of a token in integers.
struct TokenBucket: Sendable {
    /// A token is this many parts: the nanoseconds in which an empty bucket refills. So `size` parts are added each nanosecond.
    private let partsInToken: Int128
    private let size: Int128
    /// Parts of tokens in the bucket; negative after a charge of more than it had.
    private var parts: Int128
    /// Tokens of the one-time burst that are left.
    private var burst: UInt64
    private var updated: UInt64

    /// A full bucket; nil if the configuration limits nothing.
    ///
    /// - Parameter now: nanoseconds of a clock that never goes back.
    init?(_ configuration: TokenBucketConfiguration?, now: UInt64) {
        guard let configuration, configuration.isLimit else { return nil }
        // At most 2^47 nanoseconds and 2^64 tokens: their product is less than 2^112.
        partsInToken = Int128(min(configuration.refillMilliseconds, TokenBucketConfiguration.refillLimit)) * 1_000_000
        size = Int128(configuration.size)
        parts = size * partsInToken
        burst = configuration.oneTimeBurst
        updated = now
    }

    /// Nanoseconds until `tokens` can be taken; 0 if they can be taken now. A request of more tokens than the bucket holds needs a full one.
    func wait(for tokens: UInt64) -> UInt64 {
        guard tokens > burst else { return 0 }
        let missing = min(Int128(tokens - burst), size) * partsInToken - parts
        return missing <= 0 ? 0 : UInt64(clamping: (missing + size - 1) / size)
    }

    /// Takes tokens, even those that the bucket lacks: later requests then wait longer.
    mutating func take(_ tokens: UInt64) {
        let fromBurst = min(tokens, burst)
        burst -= fromBurst
        // The debt has a bound, so that many charges cannot overflow it.
        parts = max(parts - Int128(tokens - fromBurst) * partsInToken, -(Int128.max >> 2))
    }

    /// Adds the tokens since the last call.
    mutating func refill(now: UInt64) {
        guard now > updated else { return }
        let full = size * partsInToken
        let (added, isHuge) = Int128(now - updated).multipliedReportingOverflow(by: size)
        let (sum, isOver) = parts.addingReportingOverflow(added)
        parts = isHuge || isOver ? full : min(sum, full)
        updated = now
    }
}
