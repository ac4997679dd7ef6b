// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing

@testable import SymVMM
@testable import VMMModel

/// A clock that stands until it is moved.
final class TestClock: Sendable {
    private let time = Atomic<UInt64>(1_000_000_000)

    func advance(milliseconds: UInt64) {
        time.wrappingAdd(milliseconds * 1_000_000, ordering: .sequentiallyConsistent)
    }

    func advance(nanoseconds: UInt64) {
        time.wrappingAdd(nanoseconds, ordering: .sequentiallyConsistent)
    }

    var now: UInt64 { time.load(ordering: .sequentiallyConsistent) }
}

@Suite struct RateLimiterTests {
    private func limiter(_ clock: TestClock, bandwidth: TokenBucketConfiguration? = nil, operations: TokenBucketConfiguration? = nil)
        -> RateLimiter
    {
        RateLimiter(RateLimiterConfiguration(bandwidth: bandwidth, operations: operations)) { clock.now }
    }

    @Test func noLimitTakesEverything() {
        let clock = TestClock()
        for limiter in [
            RateLimiter(nil), limiter(clock, bandwidth: .init(size: 0, refillMilliseconds: 10)),
            limiter(clock, operations: .init(size: 10, refillMilliseconds: 0)),
        ] {
            #expect(!limiter.isLimited)
            #expect(limiter.take(bytes: .max) == nil)
        }
    }

    @Test func aBucketRefillsEvenlyAndIsNeverMoreThanFull() {
        let clock = TestClock()
        let limiter = limiter(clock, bandwidth: .init(size: 1000, refillMilliseconds: 100))
        #expect(limiter.take(bytes: 600) == nil)
        // 400 are left; 200 more come in 20 ms.
        #expect(limiter.take(bytes: 600) == clock.now + 20_000_000)
        clock.advance(nanoseconds: 19_999_999)
        #expect(limiter.take(bytes: 600) == clock.now + 1)
        clock.advance(nanoseconds: 1)
        #expect(limiter.take(bytes: 600) == nil)
        #expect(limiter.take(bytes: 1) == clock.now + 100_000)
        clock.advance(milliseconds: 1_000_000)
        #expect(limiter.take(bytes: 1000) == nil)
        #expect(limiter.take(bytes: 1000) == clock.now + 100_000_000)
    }

    @Test func theBurstIsUsedOnce() {
        let clock = TestClock()
        let limiter = limiter(clock, operations: .init(size: 2, refillMilliseconds: 1000, oneTimeBurst: 3))
        for _ in 0..<5 { #expect(limiter.take(bytes: 0) == nil) }
        #expect(limiter.take(bytes: 0) == clock.now + 500_000_000)
        clock.advance(milliseconds: 10_000)
        for _ in 0..<2 { #expect(limiter.take(bytes: 0) == nil) }
        #expect(limiter.take(bytes: 0) != nil)
    }

    @Test func aRequestLargerThanTheBucketPassesWhenItIsFullAndIsPaidLater() {
        let clock = TestClock()
        let limiter = limiter(clock, bandwidth: .init(size: 100, refillMilliseconds: 100))
        #expect(limiter.take(bytes: 1000) == nil)
        // 900 short, and the next byte: 901 ms.
        #expect(limiter.take(bytes: 1) == clock.now + 901_000_000)
        clock.advance(milliseconds: 901)
        #expect(limiter.take(bytes: 1) == nil)
        #expect(limiter.take(bytes: 1000) == clock.now + 100_000_000)
    }

    @Test func anOperationTakesFromBothBucketsOrFromNone() {
        let clock = TestClock()
        let limiter = limiter(
            clock, bandwidth: .init(size: 100, refillMilliseconds: 100), operations: .init(size: 2, refillMilliseconds: 1000))
        #expect(limiter.take(bytes: 100) == nil)
        #expect(limiter.take(bytes: 100) == clock.now + 100_000_000)
        clock.advance(milliseconds: 100)
        // The second operation's token is still there: the refused one has not taken it.
        #expect(limiter.take(bytes: 100) == nil)
        // 2 - 2 + 0.2 tokens: 0.8 are missing.
        #expect(limiter.take(bytes: 0) == clock.now + 400_000_000)
    }

    @Test func aChargeIsPaidByLaterRequests() {
        let clock = TestClock()
        let limiter = limiter(clock, bandwidth: .init(size: 100, refillMilliseconds: 100))
        limiter.charge(bytes: 300)
        #expect(limiter.take(bytes: 100) == clock.now + 300_000_000)
    }

    @Test func aChangeReplacesTheBucketsThatItNames() {
        let clock = TestClock()
        let limiter = limiter(
            clock, bandwidth: .init(size: 100, refillMilliseconds: 100), operations: .init(size: 1, refillMilliseconds: 1000))
        #expect(limiter.take(bytes: 100) == nil)
        limiter.update(RateLimiterConfiguration(operations: .init(size: 0, refillMilliseconds: 0)))
        #expect(limiter.take(bytes: 100) == clock.now + 100_000_000, "the bandwidth's bucket is still empty")
        limiter.update(RateLimiterConfiguration(bandwidth: .init(size: 0, refillMilliseconds: 0)))
        #expect(!limiter.isLimited)
        #expect(limiter.take(bytes: .max) == nil)
    }

    @Test func theLargestValuesDoNotOverflow() {
        let clock = TestClock()
        let most = TokenBucketConfiguration(
            size: .max, refillMilliseconds: TokenBucketConfiguration.refillLimit, oneTimeBurst: .max)
        let limiter = limiter(clock, bandwidth: most, operations: most)
        for _ in 0..<4 { _ = limiter.take(bytes: .max) }
        for _ in 0..<100 { limiter.charge(bytes: .max) }
        clock.advance(nanoseconds: .max >> 1)
        #expect(limiter.take(bytes: 1) == nil)
        let slow = self.limiter(clock, bandwidth: .init(size: 1, refillMilliseconds: TokenBucketConfiguration.refillLimit))
        #expect(slow.take(bytes: .max) == nil)
        #expect(slow.take(bytes: 1) == .max)
    }

    @Test func neverMoreThanTheRateOverAnyTime() throws {
        let clock = TestClock()
        let limiter = limiter(clock, bandwidth: .init(size: 5000, refillMilliseconds: 50))
        let start = clock.now
        var taken: UInt64 = 0
        var state: UInt64 = 42
        while clock.now < start + 10_000_000_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1
            let bytes = state >> 51  // up to 8191: some are larger than the bucket
            if let time = limiter.take(bytes: bytes) {
                try #require(time > clock.now)
                clock.advance(nanoseconds: time - clock.now)
            } else {
                taken += bytes
            }
            let earned = (clock.now - start) * 100_000 / 1_000_000_000
            // Ends the test: without a limit, the clock stands still.
            try #require(taken <= earned + 5000 + 8192)
        }
        #expect(taken >= 10 * 100_000 - 10_000, "and it is not slower than the rate")
    }

    @Test func aPartialChangeOfTheConfiguration() {
        let bucket = TokenBucketConfiguration(perSecond: 10)
        let none = TokenBucketConfiguration(size: 0, refillMilliseconds: 0)
        let both = RateLimiterConfiguration(bandwidth: bucket, operations: bucket)
        #expect(both.changed(by: RateLimiterConfiguration()) == both)
        #expect(both.changed(by: RateLimiterConfiguration(bandwidth: none)) == RateLimiterConfiguration(operations: bucket))
        #expect(RateLimiterConfiguration().changed(by: both) == both)
    }
}
