// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import SymVMM
@testable import VMMBase

@Suite struct VirtioTransportTests {
    private func rng() throws -> (VirtioTestDriver, IOThread) {
        let thread = try IOThread.running()
        return (try VirtioTestDriver(VirtioRng(on: thread)), thread)
    }

    @Test func identityAndFixedRegisters() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        #expect(driver.read(0x00) == 0x7472_6976)
        #expect(driver.read(0x04) == 2)
        #expect(driver.read(0x08) == 4)
        #expect(driver.read(0xb0) == 0xffff_ffff)
        #expect(driver.read(0xb4) == 0xffff_ffff)
        #expect(driver.read(0xb8) == 0xffff_ffff)
        #expect(driver.read(0xfc) == 0)
        #expect(driver.read(0x34) == 64)
        driver.write(0x30, 1)
        #expect(driver.read(0x34) == 0, "a queue that does not exist has size 0")
        #expect(driver.offered == VirtioTestDriver.ringFeatures)
        driver.write(0x14, 2)
        #expect(driver.read(0x10) == 0)
    }

    @Test func featuresMustBeOfferedAndIncludeVersion1() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        #expect(!driver.negotiate(VirtioFeature.eventIndex), "without VERSION_1")
        #expect(driver.status == 3)
        #expect(!driver.negotiate(VirtioFeature.version1 | 1 << 5), "a feature that was not offered")
        #expect(driver.negotiate(VirtioFeature.version1))
        driver.write(0x24, 0)
        driver.write(0x20, 0xffff_ffff)
        #expect(driver.counter("bad_accesses") > 0, "features after FEATURES_OK are refused")
    }

    @Test func statusKeepsItsOrder() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        driver.write(0x70, 4)
        #expect(driver.status == 0, "DRIVER_OK before all else")
        #expect(driver.negotiate(VirtioFeature.version1))
        driver.write(0x70, 1)
        #expect(driver.status == 11, "bits are not taken back")
        driver.write(0x70, 0)
        #expect(driver.status == 0)
        #expect(driver.counter("resets") == 2)
    }

    @Test func queueRegistersAreCheckedAndReset() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        driver.write(0x44, 1)
        #expect(driver.read(0x44) == 0, "no queue before FEATURES_OK")
        #expect(driver.negotiate(VirtioFeature.version1))
        let before = driver.counter("bad_accesses")
        for size: UInt32 in [0, 3, 128, 0x10040] { driver.write(0x38, size) }
        #expect(driver.counter("bad_accesses") == before + 4)
        _ = try driver.setUpQueue(0, size: 16)
        #expect(driver.read(0x44) == 1)
        driver.write(0x44, 0)
        #expect(driver.read(0x44) == 0)
        _ = try driver.setUpQueue(0, size: 16)
        driver.write(0x70, 0)
        #expect(driver.read(0x44) == 0)
    }

    @Test func oddAccessesAreCountedAndHarmless() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        for size in [1, 2, 4, 8] {
            for offset: UInt64 in [0, 1, 2, 0x34, 0xff, 0x100, 0x1ff, 0x200, 0xfff, .max, .max - 3] {
                _ = driver.transport.read(offset: offset, size: size)
                driver.transport.writeRegister(offset: offset, size: size, value: .max)
            }
        }
        driver.write(0x50, 1)
        driver.write(0x50, .max)
        #expect(driver.counter("bad_accesses") > 40)
        #expect(driver.negotiate(VirtioFeature.version1))
    }

    @Test func whatTheSpecificationForbidsIsRefusedAndCounted() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        func counts(_ number: UInt64, _ comment: Comment, _ body: () -> Void) {
            let before = driver.counter("bad_accesses")
            body()
            #expect(driver.counter("bad_accesses") == before + number, comment)
        }
        counts(1, "unknown status bits") { driver.write(0x70, 1 | 16) }
        #expect(driver.status == 1)
        counts(0, "DEVICE_NEEDS_RESET, written back") { driver.write(0x70, 1 | 64) }
        #expect(driver.status == 1)
        counts(1, "refused features") { #expect(!driver.negotiate(VirtioFeature.eventIndex)) }
        counts(1, "a write-only register") { #expect(driver.read(0x30) == 0) }
        counts(1, "an undefined register") { #expect(driver.read(0xc0) == 0) }
        counts(1, "undefined bits of InterruptACK") { driver.write(0x64, 4) }
        counts(2, "the configuration space, which this device has not") {
            driver.write(0x100, 1)
            _ = driver.read(0x100)
        }
    }

    @Test func aFeatureAbove63IsRefusedUntilItIsWithdrawn() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        #expect(driver.negotiate(VirtioFeature.version1))
        driver.write(0x70, 0)
        driver.write(0x70, 1)
        driver.write(0x70, 3)
        for (word, value) in [(UInt32(1), UInt32(1)), (2, 4), (100, 1)] {
            driver.write(0x24, word)
            driver.write(0x20, value)
        }
        driver.write(0x70, 11)
        #expect(driver.status == 3)
        driver.write(0x20, 0)
        driver.write(0x70, 11)
        #expect(driver.status == 3, "word 2 is still there")
        driver.write(0x24, 2)
        driver.write(0x20, 0)
        driver.write(0x70, 11)
        #expect(driver.status == 11)
    }

    @Test func aBadQueueSizeMakesTheQueueUnusable() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        #expect(driver.negotiate(VirtioFeature.version1))
        driver.setQueue(0, 16, 0x10000, 0x20000, 0x30000)
        driver.write(0x38, 512)
        driver.write(0x44, 1)
        driver.start()
        #expect(driver.status == 15 | 64)
    }

    @Test func turningOffAQueueThatDoesNotExistHasNoEffect() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        let queue = try driver.bringUp()[0]
        driver.write(0x30, 1)
        driver.write(0x44, 0)
        #expect(driver.counter("bad_accesses") == 1)
        try queue.add([.init(address: driver.allocate(64), length: 64, isWritable: true)])
        queue.kick()
        #expect(try queue.take()?.written == 64)
    }

    @Test func buffersThatTheEntropyDeviceCanOnlyReadComeBackEmpty() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        let queue = try driver.bringUp()[0]
        let place = driver.allocate(64)
        for lengths: [(UInt32, Bool)] in [[(32, false)], [(32, false), (32, true)], [(0, true)]] {
            try queue.add(lengths.map { .init(address: place, length: $0.0, isWritable: $0.1) })
            queue.kick()
            #expect(try queue.take()?.written == 0)
        }
        #expect(driver.counter("refused_requests") == 3)
        #expect(try driver.memory.read(place, byteCount: 64) == [UInt8](repeating: 0, count: 64))
    }

    private static let badPlaces: [(UInt64, UInt64, UInt64)] = [
        (0x10008, 0x20000, 0x30000), (0x10000, 0x20001, 0x30000), (0x10000, 0x20000, 0x30002),
        (16 << 20, 0x20000, 0x30000), (0x10000, (16 << 20) - 2, 0x30000), (0x10000, 0x20000, 0xffff_ffff_ffff_fff0),
        (0xffff_ffff_ffff_fff0, 0x20000, 0x30000), (0x10000, 0xffff_ffff_ffff_fffe, 0x30000),
    ]

    @Test(arguments: badPlaces)
    func badRingPlacesNeedAReset(_ table: UInt64, _ available: UInt64, _ used: UInt64) throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        #expect(driver.negotiate(VirtioFeature.version1))
        driver.setQueue(0, 16, table, available, used)
        driver.write(0x44, 1)
        driver.start()
        #expect(driver.status == 15 | 64)
        #expect(driver.read(0x60) == 2, "a configuration change tells the driver")
        #expect(driver.line.takePending() == 1)
        #expect(driver.counter("faults") == 1)
        driver.write(0x64, 2)
        #expect(driver.read(0x60) == 0)
        let queue = try driver.bringUp(size: 16)[0]
        #expect(driver.status == 15, "a reset mends it")
        try queue.add([.init(address: driver.allocate(8), length: 8, isWritable: true)])
        queue.kick()
        #expect(try queue.take()?.written == 8)
    }

    @Test func randomBytesWithInterruptAndLimit() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        let queue = try driver.bringUp(VirtioFeature.version1)[0]
        let place = driver.allocate(128 << 10)
        try queue.add([.init(address: place, length: 64, isWritable: true)])
        queue.kick()
        #expect(try queue.take()?.written == 64)
        #expect(waitUntil { driver.read(0x60) == 1 })
        #expect(driver.line.takePending() == 1)
        driver.write(0x64, 1)
        let first = try driver.memory.read(place, byteCount: 64)
        #expect(Set(first).count > 16, "64 random bytes with fewer than 17 values: once in many universes")
        try queue.add([.init(address: place, length: 128 << 10, isWritable: true)])
        queue.kick()
        #expect(try queue.take()?.written == 64 << 10, "bounded")
        #expect(try driver.memory.read(place + 64 << 10, byteCount: 64) == [UInt8](repeating: 0, count: 64))
        #expect(try driver.memory.read(place, byteCount: 64) != first)
        #expect(driver.counter("bytes") == 64 + 64 << 10)
    }

    @Test func aQueueTurnedOffIsNotServed() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        let queue = try driver.bringUp()[0]
        driver.write(0x30, 0)
        driver.write(0x44, 0)
        #expect(driver.read(0x44) == 0)
        try queue.add([.init(address: driver.allocate(64), length: 64, isWritable: true)])
        queue.kick()
        #expect(try queue.take(within: 0.05) == nil)
    }

    @Test func manyResetsWhileBusy() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        for _ in 0..<200 {
            let queue = try driver.bringUp()[0]
            let place = driver.allocate(4096)
            for _ in 0..<32 { try queue.add([.init(address: place, length: 4096, isWritable: true)]) }
            queue.kick()
        }
        driver.write(0x70, 0)
        let queue = try driver.bringUp()[0]
        try queue.add([.init(address: driver.allocate(64), length: 64, isWritable: true)])
        queue.kick()
        #expect(try queue.take()?.written == 64)
        #expect(driver.counter("faults") == 0)
    }

    @Test(.enabled(if: unsafe access("/dev/kvm", R_OK | W_OK) == 0, "needs /dev/kvm"))
    func kvmTakesTheDoorbells() throws {
        let (driver, thread) = try rng()
        defer { thread.stop() }
        let machine = try KVMSystem().createVirtualMachine()
        try machine.createInterruptController()
        try driver.transport.attach(to: machine, at: 0xd000_0000)
        #expect(throws: VMMError.self, "the place is taken now") { try driver.transport.attach(to: machine, at: 0xd000_0000) }
        try driver.transport.attach(to: machine, at: 0xd000_1000)
    }
}
