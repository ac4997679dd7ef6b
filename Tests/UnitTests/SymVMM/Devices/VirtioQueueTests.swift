// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

@Suite struct VirtioQueueTests {
    private typealias Buffer = VirtioTestQueue.Buffer

    /// A driver of a live entropy device with a queue of 16.
    private func live(_ features: UInt64 = VirtioTestDriver.ringFeatures) throws -> (VirtioTestDriver, VirtioTestQueue, IOThread) {
        let thread = try IOThread.running()
        let driver = try VirtioTestDriver(VirtioRng(on: thread))
        return (driver, try driver.bringUp(features, size: 16)[0], thread)
    }

    /// Damages the queue, notifies, and expects the device to request a reset once. Expects it to work after the reset.
    private func expectBroken(
        _ comment: Comment, features: UInt64 = VirtioTestDriver.ringFeatures, _ spoil: (VirtioTestDriver, VirtioTestQueue) throws -> Void
    ) throws {
        let (driver, queue, thread) = try live(features)
        defer { thread.stop() }
        try spoil(driver, queue)
        queue.kick()
        #expect(waitUntil { driver.status == 15 | 64 }, comment)
        #expect(driver.read(0x60) & 2 == 2, comment)
        queue.kick()
        let used = try queue.usedIndex
        try queue.add([Buffer(address: driver.allocate(64), length: 64, isWritable: true)])
        queue.kick()
        #expect(try queue.take(within: 0.02) == nil || used != 0, comment)
        #expect(driver.counter("faults") == 1, comment)
        let fresh = try driver.bringUp(size: 16)[0]
        try fresh.add([Buffer(address: driver.allocate(64), length: 64, isWritable: true)])
        fresh.kick()
        #expect(try fresh.take()?.written == 64, comment)
    }

    @Test func availableIndexJumps() throws {
        try expectBroken("by 17 of 16") { driver, queue in try driver.memory.store(UInt16(17), at: queue.available + 2) }
        try expectBroken("backwards") { driver, queue in try driver.memory.store(UInt16(0xffff), at: queue.available + 2) }
    }

    @Test func headAndNextOutOfRange() throws {
        try expectBroken("head") { _, queue in try queue.offer(16) }
        try expectBroken("next") { _, queue in
            try queue.setDescriptor(at: queue.table, Buffer(address: 0x1000, length: 8, isWritable: true), flags: 1, next: 16)
            try queue.offer(0)
        }
    }

    @Test func loops() throws {
        try expectBroken("to itself") { _, queue in
            try queue.setDescriptor(at: queue.table, Buffer(address: 0x1000, length: 8, isWritable: true), flags: 1, next: 0)
            try queue.offer(0)
        }
        try expectBroken("of empty descriptors") { _, queue in
            try queue.setDescriptor(at: queue.table, Buffer(address: 0x1000, length: 0, isWritable: true), flags: 1, next: 1)
            try queue.setDescriptor(at: queue.table + 16, Buffer(address: 0x1000, length: 0, isWritable: true), flags: 1, next: 0)
            try queue.offer(0)
        }
        try expectBroken("in an indirect table") { driver, queue in
            let place = driver.allocate(32)
            try queue.setDescriptor(at: place, Buffer(address: 0x1000, length: 8, isWritable: true), flags: 1, next: 0)
            try queue.setDescriptor(at: queue.table, Buffer(address: place, length: 32, isWritable: false), flags: 4)
            try queue.offer(0)
        }
    }

    private static let badBuffers: [(UInt64, UInt32)] = [
        (16 << 20, 1), ((16 << 20) - 4, 8), (0, (16 << 20) + 1), (0, .max), (.max, 1), (.max - 3, 8), (3 << 30, 8), (4 << 30, 8),
    ]

    @Test(arguments: badBuffers)
    func badBufferAddresses(_ address: UInt64, _ length: UInt32) throws {
        try expectBroken("buffer at \(address)") { _, queue in try queue.add([Buffer(address: address, length: length, isWritable: true)]) }
    }

    @Test func badIndirectTables() throws {
        let table: [(UInt64, UInt32, UInt16, Comment)] = [
            (0x10000, 24, 4, "no multiple of 16"), (0x10000, 0, 4, "empty"), (16 << 20, 16, 4, "outside memory"),
            ((16 << 20) - 16, 32, 4, "half outside"), (0x10000, 16, 5, "with a successor"), (.max - 15, 32, 4, "wraps"),
        ]
        for (address, length, flags, comment) in table {
            try expectBroken(comment) { _, queue in
                try queue.setDescriptor(at: queue.table, Buffer(address: address, length: length, isWritable: false), flags: flags)
                try queue.offer(0)
            }
        }
        try expectBroken("not negotiated", features: VirtioFeature.version1) { driver, queue in
            try queue.add([Buffer(address: driver.allocate(8), length: 8, isWritable: true)], indirect: true)
        }
        try expectBroken("nested") { driver, queue in
            let place = driver.allocate(16)
            try queue.setDescriptor(at: place, Buffer(address: place, length: 16, isWritable: false), flags: 4)
            try queue.setDescriptor(at: queue.table, Buffer(address: place, length: 16, isWritable: false), flags: 4)
            try queue.offer(0)
        }
        try expectBroken("longer than any queue") { driver, queue in
            try queue.add([Buffer](repeating: Buffer(address: driver.allocate(8), length: 8, isWritable: true), count: 257), indirect: true)
        }
    }

    @Test func readableAfterWritable() throws {
        try expectBroken("order") { driver, queue in
            let place = driver.allocate(64)
            try queue.add([Buffer(address: place, length: 8, isWritable: true), Buffer(address: place, length: 8, isWritable: false)])
        }
    }

    @Test func aChainHasAtMost4GiB() throws {
        let memory = try GuestMemory(byteCount: 32 << 20)
        let layout = VirtqueueLayout(size: 256, descriptorTable: 0, availableRing: 0x2000, usedRing: 0x3000)
        for index in UInt64(0)..<256 {
            try memory.store(UInt64(1 << 20), at: 16 * index)
            try memory.store(UInt32(16 << 20), at: 16 * index + 8)
            try memory.store(UInt32(index == 255 ? 2 : 3) | UInt32(index + 1) << 16, at: 16 * index + 12)
        }
        let chain = DescriptorChain()
        try chain.load(head: 0, layout: layout, limit: 256, allowIndirect: false, memory: memory)
        #expect(chain.writable.byteCount == 4 << 30)
        try memory.store(UInt32(16 << 20) + 1, at: 8)
        #expect(throws: VirtqueueFault.chainTooLarge) {
            try chain.load(head: 0, layout: layout, limit: 256, allowIndirect: false, memory: memory)
        }
    }

    @Test func anIndirectChainIsAtMostAsLongAsTheLargestQueue() throws {
        // The driver's queue has 16 entries, the device's largest one 64.
        let (driver, queue, thread) = try live()
        defer { thread.stop() }
        let one = Buffer(address: driver.allocate(8), length: 1, isWritable: true)
        try queue.add([Buffer](repeating: one, count: 64), indirect: true)
        queue.kick()
        #expect(try queue.take()?.written == 64)
        try expectBroken("65 descriptors") { _, queue in try queue.add([Buffer](repeating: one, count: 65), indirect: true) }
    }

    @Test func directIndirectAndBothTogether() throws {
        let (driver, queue, thread) = try live()
        defer { thread.stop() }
        let place = driver.allocate(1024)
        let parts = (0..<4).map { Buffer(address: place + 64 * UInt64($0), length: 32, isWritable: true) }
        let direct = try queue.add(parts)
        queue.kick()
        var taken = try queue.take()
        #expect(taken?.head == UInt32(direct) && taken?.written == 128)
        let indirect = try queue.add(parts, indirect: true)
        queue.kick()
        taken = try queue.take()
        #expect(taken?.head == UInt32(indirect) && taken?.written == 128)
        // A direct descriptor, then an indirect table whose write flag the device must ignore.
        let inner = driver.allocate(16)
        try queue.setDescriptor(at: inner, parts[1])
        try queue.setDescriptor(at: queue.table + 16 * 14, parts[0], flags: 1, next: 15)
        try queue.setDescriptor(at: queue.table + 16 * 15, Buffer(address: inner, length: 16, isWritable: true), flags: 4)
        try queue.offer(14)
        queue.kick()
        taken = try queue.take()
        #expect(taken?.head == 14 && taken?.written == 64)
        let between = try driver.memory.read(place + 32, byteCount: 32)
        #expect(between == [UInt8](repeating: 0, count: 32), "between the buffers nothing is written")
    }

    @Test func indicesWrapAround() throws {
        let (driver, queue, thread) = try live()
        defer { thread.stop() }
        let place = driver.allocate(16)
        for round in 0..<(0x10000 / 8 + 100) {
            for _ in 0..<8 { try queue.add([Buffer(address: place, length: 1, isWritable: true)]) }
            queue.kick()
            for _ in 0..<8 { try #require(try queue.take()?.written == 1, "round \(round)") }
        }
        #expect(driver.counter("faults") == 0)
    }

    @Test func eventIndexHoldsInterruptsBack() throws {
        let (driver, queue, thread) = try live()
        defer { thread.stop() }
        let usedEvent = queue.available + 4 + 2 * UInt64(queue.size)
        let place = driver.allocate(16)
        func one() throws {
            try queue.add([Buffer(address: place, length: 1, isWritable: true)])
            queue.kick()
            #expect(try queue.take()?.written == 1)
        }
        // Request an interrupt at the fourth used buffer only.
        try driver.memory.storeReleasing(3, at: usedEvent)
        for _ in 0..<3 { try one() }
        #expect(!waitUntil(within: 0.02) { driver.read(0x60) != 0 })
        try one()
        #expect(waitUntil { driver.read(0x60) == 1 })
        #expect(driver.line.takePending() == 1)
        let availableEvent = queue.used + 4 + 8 * UInt64(queue.size)
        #expect(waitUntil { (try? driver.memory.loadAcquiring(availableEvent)) == 4 }, "the device says what to ring for")
    }

    @Test func flagHoldsInterruptsBack() throws {
        let (driver, queue, thread) = try live(VirtioFeature.version1)
        defer { thread.stop() }
        try driver.memory.storeReleasing(1, at: queue.available)
        try queue.add([Buffer(address: driver.allocate(16), length: 1, isWritable: true)])
        queue.kick()
        #expect(try queue.take()?.written == 1)
        #expect(!waitUntil(within: 0.02) { driver.read(0x60) != 0 })
        try driver.memory.storeReleasing(0, at: queue.available)
        try queue.add([Buffer(address: driver.allocate(16), length: 1, isWritable: true)])
        queue.kick()
        #expect(waitUntil { driver.read(0x60) == 1 })
    }
}
