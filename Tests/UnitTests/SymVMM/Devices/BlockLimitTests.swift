// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// A disk with a rate limiter. Times are bounded from below only: a busy machine is slower.
@Suite struct BlockLimitTests {
    private final class CountingStorage: BlockStorage, @unchecked Sendable {
        let reads = Atomic<Int>(0)

        init() {
            super.init(byteCount: 1 << 20, sectorSize: 512, isReadOnly: false)
        }

        override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
            reads.wrappingAdd(1, ordering: .sequentiallyConsistent)
        }

        override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        }
    }

    private struct Disk {
        let device: VirtioBlock
        let driver: VirtioTestDriver
        let queue: VirtioTestQueue
        let storage = CountingStorage()
        private let header: UInt64
        private let data: UInt64

        init(_ limiter: RateLimiterConfiguration) throws {
            device = try VirtioBlock(id: "slow", storage: storage, rateLimiter: limiter)
            driver = try VirtioTestDriver(device)
            queue = try driver.bringUp(driver.offered, size: 128)[0]
            header = driver.allocate(64)
            data = driver.allocate(64 << 10)
        }

        func read(_ bytes: Int) throws {
            try driver.memory.zero(header, byteCount: 16)
            try queue.add([
                .init(address: header, length: 16, isWritable: false),
                .init(address: data, length: UInt32(bytes + 1), isWritable: true),
            ])
            queue.kick()
        }

        func zero(sectors: UInt32) throws {
            try driver.memory.zero(header + 16, byteCount: 32)
            try driver.memory.store(UInt32(13), at: header + 16)
            try driver.memory.store(sectors, at: header + 40)
            try queue.add([
                .init(address: header + 16, length: 32, isWritable: false), .init(address: data, length: 1, isWritable: true),
            ])
            queue.kick()
        }

        var reads: Int { storage.reads.load(ordering: .sequentiallyConsistent) }
    }

    private func milliseconds(since start: UInt64) -> UInt64 {
        (TickClock.monotonicNanoseconds() - start) / 1_000_000
    }

    @Test func operationsWaitForTheirTokens() throws {
        let disk = try Disk(RateLimiterConfiguration(operations: .init(size: 4, refillMilliseconds: 200)))
        let start = TickClock.monotonicNanoseconds()
        for _ in 0..<12 { try disk.read(512) }
        for _ in 0..<12 { #expect(try disk.queue.take(within: 60)?.written == 513) }
        // Four from the full bucket, eight more at 50 ms each.
        #expect(milliseconds(since: start) >= 400)
        #expect(disk.driver.counter("throttled_requests") >= 1)
        #expect(disk.reads == 12)
    }

    @Test func bytesWaitForTheirTokens() throws {
        let disk = try Disk(RateLimiterConfiguration(bandwidth: .init(size: 8192, refillMilliseconds: 100)))
        let start = TickClock.monotonicNanoseconds()
        for _ in 0..<10 { try disk.read(4096) }
        for _ in 0..<10 { #expect(try disk.queue.take(within: 60)?.written == 4097) }
        #expect(milliseconds(since: start) >= 400)
        // Zeroes that the host writes cost as many bytes, although the request is small.
        try disk.zero(sectors: 32)
        #expect(try disk.queue.take(within: 60)?.written == 1)
        let zeroed = TickClock.monotonicNanoseconds()
        try disk.read(4096)
        #expect(try disk.queue.take(within: 60)?.written == 4097)
        #expect(milliseconds(since: zeroed) >= 100)
    }

    @Test func aResetDoesNotWaitForTokens() throws {
        let disk = try Disk(RateLimiterConfiguration(operations: .init(size: 1, refillMilliseconds: 86_400_000)))
        for _ in 0..<3 { try disk.read(512) }
        #expect(try disk.queue.take(within: 60)?.written == 513)
        #expect(waitUntil(within: 30) { disk.driver.counter("throttled_requests") == 1 })
        // The next token comes tomorrow.
        disk.driver.write(0x70, 0)
        #expect(disk.driver.status == 0)
        #expect(disk.reads == 1, "the other requests were not executed")
    }

    @Test func otherLimitsApplyAtOnceAndNothingIsLost() throws {
        let disk = try Disk(RateLimiterConfiguration(operations: .init(size: 1, refillMilliseconds: 86_400_000)))
        for _ in 0..<5 { try disk.read(512) }
        #expect(try disk.queue.take(within: 60)?.written == 513)
        #expect(waitUntil(within: 30) { disk.driver.counter("throttled_requests") == 1 })
        // Stops and starts the workers while a request waits for tokens.
        let other = CountingStorage()
        try disk.device.replaceStorage(other)
        disk.device.changeRateLimiter(RateLimiterConfiguration(operations: .init(size: 0, refillMilliseconds: 0)))
        for _ in 0..<4 { #expect(try disk.queue.take(within: 60)?.written == 513) }
        #expect(other.reads.load(ordering: .sequentiallyConsistent) == 4)
        #expect(disk.reads == 1)
    }
}
