// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

/// The clock, the buses and the recorder, without a vCPU.
@Suite struct LegacyDeviceTests {
    @Test func theClockTellsTheHostsTimeInBCD() {
        // 2026-11-22 16:59:58 UTC, a Sunday.
        let moment = 1_795_366_798
        let expected: [(UInt8, UInt8)] = [
            (0x00, 0x58), (0x02, 0x59), (0x04, 0x16), (0x06, 0x01), (0x07, 0x22), (0x08, 0x11), (0x09, 0x26), (0x32, 0x20), (0x0a, 0x26),
            (0x0b, 0x02), (0x0d, 0x80), (0x0f, 0x00),
        ]
        for (register, value) in expected { #expect(CMOSClock.register(register, at: moment) == value, "register \(register)") }
    }

    @Test func devicesDoNotOverlap() {
        var ports = PIOBus()
        let device = BusDevice(name: "a")
        let portAnswers = [(UInt16(0x60), 4), (0x63, 1), (0xffff, 2), (0xffff, 1)].map { ports.attach(device, base: $0, count: $1) }
        #expect(portAnswers == [true, false, false, true])
        #expect(ports.find(0x63)?.offset == 3)
        #expect(ports.find(0x64) == nil)

        var mmio = MMIOBus()
        let ranges: [(UInt64, UInt64)] = [(0x2000, 0x1000), (0x1000, 0x1000), (0x1fff, 2), (.max, 2)]
        #expect(ranges.map { mmio.attach(device, base: $0, byteCount: $1) } == [true, true, false, false])
        #expect(mmio.find(0x1008, size: 4)?.offset == 8)
        #expect(mmio.find(0x2fff, size: 1)?.offset == 0xfff)
        #expect(mmio.find(0x2fff, size: 2) == nil)
        #expect(mmio.find(0x3000, size: 1) == nil)
        #expect(mmio.find(0, size: 1) == nil)
    }

    @Test func bucketsAreNarrowAndGapless() {
        var last = -1
        for ticks in [UInt64(0), 1, 15, 16, 17, 31, 32, 33, 63, 64, 1000, 1001, 65535, 65536, 1 << 40, (1 << 47) - 1, .max] {
            let bucket = ExitRecorder.bucket(ticks)
            #expect(bucket >= last)
            last = bucket
            if ticks < 1 << 47 {
                let bound = ExitRecorder.upperBound(ofBucket: bucket)
                #expect(bound >= ticks)
                #expect(Double(bound) <= Double(ticks) * 1.0667 + 1)
                #expect(ExitRecorder.bucket(bound) == bucket)
                #expect(ExitRecorder.bucket(bound + 1) == bucket + 1)
            }
        }
    }

    @Test func aFullRecorderLosesNothing() throws {
        let recorder = try ExitRecorder()
        for address in UInt64(0)..<1000 { recorder.record(.mmioWrite, address: address, ticks: address) }
        let lines = recorder.lines { $0 }
        #expect(lines.reduce(0) { $0 + $1.latency.count } == 1000)
        #expect(lines.reduce(0) { $0 + $1.latency.total } == 999 * 1000 / 2)
        #expect(lines.contains { $0.address == nil })
    }

    @Test func guestMemoryChecksEveryAddress() throws {
        let memory = try GuestMemory(byteCount: (3 << 30) + (1 << 20))
        #expect(memory.contains(0, byteCount: 3 << 30))
        #expect(!memory.contains(1, byteCount: 3 << 30))
        #expect(!memory.contains(3 << 30, byteCount: 1))
        #expect(memory.contains(4 << 30, byteCount: 1 << 20))
        #expect(!memory.contains(4 << 30, byteCount: (1 << 20) + 1))
        #expect(!memory.contains(.max, byteCount: 1))
        #expect(!memory.contains(.max, byteCount: .max))
        #expect(!memory.contains(0, byteCount: -1))
        try memory.store(UInt64(0x0123_4567_89ab_cdef), at: (4 << 30) + 5)
        #expect(try memory.load((4 << 30) + 5) == UInt64(0x0123_4567_89ab_cdef))
        #expect(throws: GuestAddressError.self) { try memory.load((3 << 30) - 1, as: UInt16.self) }
        #expect(throws: GuestAddressError.self) { try memory.loadAcquiring(1) }
        #expect(throws: VMMError.self) { try GuestMemory(byteCount: 0) }
        #expect(throws: VMMError.self) { try GuestMemory(byteCount: 1 << 50) }
    }
}
