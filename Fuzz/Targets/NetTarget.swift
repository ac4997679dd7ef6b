// SPDX-License-Identifier: Apache-2.0

import Glibc
import VMMBase
import VMMModel

@testable import SymVMM

extension FuzzTarget {
    static let net = FuzzTarget(
        name: "net", summary: "a network interface between a hostile driver and a hostile wire (a socket pair)",
        seeds: { [[0, 1, 64, 2, 20, 3, 60, 4, 0], [1, 1, 255, 1, 255, 3, 100, 0, 3, 90, 2, 14, 6, 7]] }, prepare: { try NetFuzz().run })
}

final class NetFuzz {
    private static let receiveBuffers: UInt64 = 0x10000
    private static let sendBuffers: UInt64 = 0x80000
    private let thread: IOThread
    private let driver: FuzzDriver
    private let wire: OwnedFileDescriptor

    init() throws {
        thread = try IOThread()
        try thread.start()
        var ends: [Int32] = [0, 0]
        guard
            socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
                == 0
        else {
            throw VMMError.last("socketpair")
        }
        wire = OwnedFileDescriptor(owning: ends[0])
        let tap = TapInterface(owning: OwnedFileDescriptor(owning: ends[1]))
        driver = try FuzzDriver(VirtioNet(id: "fuzz", mac: MACAddress(derivedFrom: "fuzz"), tap: tap, on: thread))
    }

    func run(_ input: inout FuzzInput) throws {
        let setup = input.byte()
        let features = FuzzDriver.ringFeatures | (setup & 1 == 0 ? NetFeature.mergeableBuffers : 0)
        expect(try driver.bringUp(features, queues: 2), "the interface does not negotiate")
        drain()
        var (received, isHostile) = (UInt64(0), false)
        while !input.isEmpty {
            switch input.byte() % 8 {
            case 0, 1:
                // A buffer for frames, in one or two descriptors.
                let (slot, length) = (received % 8, UInt32(input.byte()) * 8 + 12)
                received += 1
                let place = NetFuzz.receiveBuffers + slot * 0x1000
                try driver.offer([(place, 10, true), (place + 10, length, true)], to: 0, first: 2 * slot)
                driver.kick(0)
            case 2, 3: if !isHostile { try send(&input) }
            case 4:
                var frame = [UInt8](repeating: 0, count: 12) + input.chunk(atMost: 1600)
                frame[0] = input.byte() & 1
                if setup & 2 != 0 { frame[1] = input.byte() }
                _ = Glibc.send(wire.rawValue, frame, frame.count, Int32(MSG_NOSIGNAL))
            case 5:
                // Too short for a header, or just not. (A message of no bytes would be the end of the socket.)
                let frame = [UInt8](repeating: 1, count: 1 + input.number(below: 70))
                _ = Glibc.send(wire.rawValue, frame, frame.count, Int32(MSG_NOSIGNAL))
            case 6:
                // The driver breaks its own rings.
                isHostile = true
                try driver.memory.store(input.edge(), at: 0x1000 + UInt64(input.number(below: 0x6000)) & ~7)
                driver.kick(input.number(below: 2))
            default: usleep(20)
            }
        }
        try checkWork()
    }

    /// The wire gets the frame as it was in the guest's buffers.
    private func send(_ input: inout FuzzInput) throws {
        let header = [UInt8](repeating: 0, count: 12)
        let frame = [UInt8](repeating: input.byte(), count: 1 + input.number(below: 1500))
        let bytes = header + frame
        let cut = UInt32(input.number(below: bytes.count) + 1)
        try driver.memory.write(NetFuzz.sendBuffers, bytes: bytes)
        drain()
        let isWhole = cut == bytes.count
        try driver.offer(
            isWhole
                ? [(NetFuzz.sendBuffers, cut, false)]
                : [(NetFuzz.sendBuffers, cut, false), (NetFuzz.sendBuffers + UInt64(cut), UInt32(bytes.count) - cut, false)], to: 1)
        driver.kick(1)
        guard driver.status & 64 == 0 else { return }
        expect(try driver.take(1) == 0, "a frame is not sent: status \(driver.status)")
        var got = [UInt8](repeating: 0, count: 70_000)
        let count = recv(wire.rawValue, &got, got.count, 0)
        expect(count == bytes.count && Array(got.prefix(count)) == bytes, "\(count) bytes on the wire, not \(bytes.count)")
    }

    private func drain() {
        var chunk = [UInt8](repeating: 0, count: 70_000)
        while recv(wire.rawValue, &chunk, chunk.count, 0) > 0 {}
    }

    /// After a reset, frames pass both ways, and the guest's memory beyond the frame stays.
    private func checkWork() throws {
        expect(try driver.bringUp(FuzzDriver.ringFeatures, queues: 2), "a reset interface does not negotiate")
        drain()
        try driver.memory.zero(NetFuzz.receiveBuffers, byteCount: 0x1000)
        try driver.offer([(NetFuzz.receiveBuffers, 1024, true)], to: 0)
        driver.kick(0)
        let frame = [UInt8](repeating: 0, count: 12) + [UInt8](repeating: 0x5a, count: 60)
        expect(Glibc.send(wire.rawValue, frame, frame.count, Int32(MSG_NOSIGNAL)) == frame.count, "the wire is full")
        expect(try driver.take(0) == 72, "a reset interface receives nothing: status \(driver.status)")
        let bytes = try driver.memory.read(NetFuzz.receiveBuffers, byteCount: 0x1000)
        expect(bytes[12..<72].allSatisfy { $0 == 0x5a } && bytes[72...].allSatisfy { $0 == 0 } && bytes[10] == 1, "the frame differs")
        driver.write(0x70, 0)
    }
}
