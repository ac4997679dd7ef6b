// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

/// A guest that writes random values: the device must survive all of them, and work after a reset.
@Suite struct VirtioHostileTests {
    private static let rounds = 400
    /// Address of the block requests' headers. Most have a valid type and a sector in or near the disk.
    private static let headers: UInt64 = 8 << 20

    /// Mostly plausible addresses: purely random ones would always fail the first check.
    private func address(_ random: inout VirtioTestRandom) -> UInt64 {
        switch random.next() % 8 {
        case 0: random.next()
        case 1: (16 << 20) - random.next() % 4096
        case 2: UInt64.max - random.next() % 4096
        case 3, 4: VirtioHostileTests.headers + 16 * (random.next() % 64)
        default: random.next() % (16 << 20)
        }
    }

    private func spoil(_ driver: VirtioTestDriver, _ queue: VirtioTestQueue, _ random: inout VirtioTestRandom) throws {
        for _ in 0..<(random.next() % 24) {
            let length = [0, 1, 15, 16, 17, 512, 513, 4096, 1 << 20, .max][Int(random.next() % 10)]
            let buffer = VirtioTestQueue.Buffer(address: address(&random), length: UInt32(truncatingIfNeeded: length), isWritable: false)
            let flags = random.next() % 4 == 0 ? UInt16(truncatingIfNeeded: random.next()) : UInt16(random.next() % 8)
            let next = UInt16(random.next() % (random.next() % 16 == 0 ? 65536 : 16))
            try queue.setDescriptor(at: queue.table + 16 * (random.next() % 16), buffer, flags: flags, next: next)
        }
        for _ in 0..<(random.next() % 8) { try queue.offer(UInt16(random.next() % (random.next() % 16 == 0 ? 65536 : 16))) }
        if random.next() % 16 == 0 { try driver.memory.store(UInt16(truncatingIfNeeded: random.next()), at: queue.available + 2) }
        if random.next() % 4 == 0 { try driver.memory.store(UInt16(truncatingIfNeeded: random.next()), at: queue.available) }
        if random.next() % 4 == 0 { try driver.memory.store(UInt16(truncatingIfNeeded: random.next()), at: queue.available + 36) }
    }

    /// Adds a valid chain of buffers, which may be invalid.
    private func addPlausible(_ driver: VirtioTestDriver, _ queue: VirtioTestQueue, _ random: inout VirtioTestRandom) throws {
        let header = VirtioHostileTests.headers + 16 * (random.next() % 64)
        try driver.memory.store(UInt32([0, 1, 4, 8, 11, 13, 99][Int(random.next() % 7)]), at: header)
        try driver.memory.store(random.next() % 8 == 0 ? random.next() : random.next() % 2100, at: header + 8)
        var buffers = [VirtioTestQueue.Buffer(address: header, length: 16, isWritable: false)]
        for _ in 0..<(random.next() % 4) {
            let length = [16, 20, 512, 1024, 4096, 1000][Int(random.next() % 6)]
            let place = random.next() % 32 == 0 ? address(&random) : random.next() % (15 << 20)
            let isWritable = buffers.last?.isWritable == true || random.next() % 2 == 0
            buffers.append(.init(address: place, length: UInt32(length), isWritable: isWritable))
        }
        buffers.append(.init(address: random.next() % (15 << 20), length: 1, isWritable: random.next() % 32 != 0))
        try queue.add(buffers, indirect: random.next() % 2 == 0)
    }

    private func pester(_ driver: VirtioTestDriver, _ seed: UInt64, features: UInt64, _ check: (VirtioTestQueue) throws -> Void) throws {
        var random = VirtioTestRandom(state: seed)
        for _ in 0..<VirtioHostileTests.rounds {
            guard let queue = try driver.bringUp(features, size: 16).first else {
                Issue.record("a reset device does not negotiate")
                return
            }
            for _ in 0..<(1 + random.next() % 6) {
                for _ in 0..<(random.next() % 4) { try addPlausible(driver, queue, &random) }
                queue.kick()
                // Sometimes wait for the device; sometimes the random writes below interrupt it.
                if random.next() % 4 != 0 {
                    _ = try waitUntil(within: 0.003) { try driver.status & 64 != 0 || queue.usedIndex == queue.nextAvailable }
                }
                if random.next() % 4 == 0 { try spoil(driver, queue, &random) }
                queue.kick()
                if random.next() % 4 == 0 {
                    driver.transport.writeRegister(offset: random.next() % 0x240, size: 4, value: random.next() & 0xffff_ffff)
                }
            }
        }
        guard let queue = try driver.bringUp(features, size: 16).first else {
            Issue.record("a reset device does not negotiate")
            return
        }
        try check(queue)
        #expect(driver.counter("faults") > 0, "the noise has to reach the checks")
    }

    @Test(arguments: [UInt64(1), 2])
    func entropy(_ seed: UInt64) throws {
        let thread = try IOThread.running()
        defer { thread.stop() }
        let driver = try VirtioTestDriver(VirtioRng(on: thread))
        try pester(driver, seed, features: VirtioTestDriver.ringFeatures) { queue in
            try queue.add([.init(address: driver.allocate(64), length: 64, isWritable: true)])
            queue.kick()
            #expect(try queue.take()?.written == 64)
        }
        #expect(driver.counter("requests") > 50, "and some of it has to pass them")
    }

    @Test(arguments: [UInt64(3), 4])
    func block(_ seed: UInt64) throws {
        let folder = try VirtioTestFolder()
        let storage = try FileStorage(path: try folder.file("disk", byteCount: 1 << 20), isReadOnly: false)
        let driver = try VirtioTestDriver(VirtioBlock(id: "noise", storage: storage))
        try pester(driver, seed, features: driver.offered) { queue in
            let place = driver.allocate(1024)
            try driver.memory.zero(place, byteCount: 1024)
            try queue.add([
                .init(address: place, length: 16, isWritable: false), .init(address: place + 16, length: 512, isWritable: true),
                .init(address: place + 600, length: 1, isWritable: true),
            ])
            queue.kick()
            #expect(try queue.take()?.written == 513)
        }
        // Random requests reach the dispatch, which answers them.
        for name in ["reads", "writes", "flushes", "discards", "write_zeroes", "refused_requests", "unsupported_requests"] {
            #expect(driver.counter(name) > 10, "\(name): \(driver.counter(name))")
        }
    }
}
