// SPDX-License-Identifier: Apache-2.0

import Glibc
import VMMBase

@testable import SwapBypass
@testable import SymVMM

extension FuzzTarget {
    static let transport = FuzzTarget(
        name: "transport", summary: "sequences of register accesses while a disk or the random number generator works, then a reset",
        maximumLength: 1024,
        seeds: { [[0, 5, 6, 7, 7, 0, 0x70, 0, 0, 5, 6, 3], [1, 5, 6, 8, 9, 5, 6, 1, 0x44, 0, 0], [0, 5, 10, 6, 11, 5, 6, 4]] },
        prepare: { try TransportFuzz().run })
}

final class TransportFuzz {
    private static let sink: UInt64 = 0x20000
    private let thread: IOThread
    private let drivers: [FuzzDriver]

    init() throws {
        thread = try IOThread()
        try thread.start()
        let disk = try VirtioBlock(id: "fuzz", storage: try SwapStore.make(SwapConfiguration(byteCount: 1 << 20)))
        drivers = [try FuzzDriver(VirtioRng(on: thread)), try FuzzDriver(disk)]
    }

    func run(_ input: inout FuzzInput) throws {
        let index = input.number(below: 2)
        let driver = drivers[index]
        driver.write(0x70, 0)
        var status = driver.status
        while !input.isEmpty {
            var isReset = false
            switch input.byte() % 12 {
            case 0, 1:
                let (offset, size) = (register(&input), input.byte() < 220 ? 4 : input.pick([1, 2, 8]))
                let value = input.flag() ? UInt64(input.byte()) : input.edge()
                let bad = driver.counter("bad_accesses")
                driver.write(offset, value, size: size)
                isReset = offset == 0x70 && size == 4 && value & 0xffff_ffff == 0
                let isReadOnly = [0, 4, 8, 12, 0x10, 0x34, 0x60, 0xfc].contains(offset) || offset < 0x100 && (offset % 4 != 0 || size != 4)
                if isReadOnly {
                    expect(driver.counter("bad_accesses") == bad + 1, "a write to 0x\(String(offset, radix: 16)) is not counted")
                }
            case 2, 3:
                let (offset, size) = (register(&input), input.pick([4, 1, 2, 8]))
                let value = driver.read(offset, size: size)
                if offset < 0x100, size == 4, offset % 4 == 0 { expect(value <= 0xffff_ffff, "a register of 32 bits is \(value)") }
            case 4: _ = try driver.take(within: 0.002)
            case 5:
                isReset = true
                let features = input.byte() < 200 ? FuzzDriver.ringFeatures : input.edge()
                let isAccepted = driver.negotiate(features)
                let isPossible = features & ~driver.transport.offered == 0 && features & VirtioFeature.version1 != 0
                expect(isAccepted == isPossible, "features 0x\(String(features, radix: 16)): accepted \(isAccepted)")
                if isAccepted {
                    try driver.setUpQueue(0)
                    driver.write(0x70, 15)
                    expect(driver.status == 15, "the status after DRIVER_OK is \(driver.status)")
                }
            case 6, 7:
                try driver.offer(request(index, &input, driver), first: UInt64(input.byte() % 12))
                driver.kick()
            case 8: driver.transport.suspend()
            case 9: driver.transport.resume()
            case 10: try checkState(driver)
            default: try driver.memory.store(input.word(), at: 0x1000 + UInt64(input.number(below: 0x3000)) & ~1)
            }
            let now = driver.status
            // Only a reset clears a bit (virtio 1.2, section 2.1.2). The device itself sets DEVICE_NEEDS_RESET at any time.
            expect(isReset || now & status == status, "status \(status) became \(now) without a reset")
            expect(now & ~0xcf == 0, "unknown status bits: \(now)")
            status = now
        }
        driver.transport.resume()
        try TransportFuzz.checkWork(driver, isDisk: index == 1)
    }

    private func register(_ input: inout FuzzInput) -> UInt64 {
        switch input.byte() % 8 {
        case 0: UInt64(input.word()) % 0x1004
        case 1: 0x100 + UInt64(input.byte())
        default: input.pick([0x70, 0x20, 0x24, 0x14, 0x30, 0x38, 0x44, 0x50, 0x64, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xac, 0xfc, 0x10])
        }
    }

    private func request(_ index: Int, _ input: inout FuzzInput, _ driver: FuzzDriver) throws -> [(
        address: UInt64, length: UInt32, isWritable: Bool
    )] {
        if index == 0 { return [(TransportFuzz.sink + UInt64(input.byte()), UInt32(input.byte()) + 1, true)] }
        try driver.memory.store(UInt32(input.byte() % 14), at: 0x18000)
        try driver.memory.store(UInt64(input.byte()) * 8, at: 0x18008)
        return [(0x18000, 16, false), (TransportFuzz.sink, 4096, input.flag()), (0x18100, 1, true)]
    }

    /// A suspended device can be saved, and the state fits into it.
    private func checkState(_ driver: FuzzDriver) throws {
        driver.transport.suspend()
        let state = try driver.transport.saveState()
        try driver.transport.restoreState(state)
        expect(try driver.transport.saveState().registers == state.registers, "restored registers differ")
    }

    /// Whatever was before: after a reset the device works, and nothing outside the buffer changes.
    static func checkWork(_ driver: FuzzDriver, isDisk: Bool) throws {
        expect(try driver.bringUp(), "a reset device does not negotiate")
        if !isDisk {
            try driver.memory.zero(TransportFuzz.sink, byteCount: 128)
            try driver.offer([(TransportFuzz.sink, 64, true)])
            driver.kick()
            expect(try driver.take() == 64, "a reset device does not work: status \(driver.status)")
            expect(try driver.memory.read(TransportFuzz.sink + 64, byteCount: 64).allSatisfy { $0 == 0 }, "bytes beyond the buffer changed")
        } else {
            try driver.memory.store(UInt32(0), at: 0x18000)
            try driver.memory.store(UInt64(0), at: 0x18008)
            try driver.memory.store(UInt8(0xff), at: 0x18100)
            try driver.offer([(0x18000, 16, false), (TransportFuzz.sink, 4096, true), (0x18100, 1, true)])
            driver.kick()
            expect(try driver.take() == 4097, "a reset device does not work: status \(driver.status)")
            expect(try driver.memory.load(0x18100, as: UInt8.self) == 0, "the request failed")
        }
        expect(driver.status == 15, "the status is \(driver.status)")
        driver.write(0x70, 0)
    }
}
