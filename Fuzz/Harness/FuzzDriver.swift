// SPDX-License-Identifier: Apache-2.0

import Glibc
import VMMBase

@testable import SymVMM

/// The driver's side of a virtio device on the MMIO transport, as the virtio specification 1.2 describes it (sections 3.1 and 4.2.3).
final class FuzzDriver {
    static let ringFeatures = VirtioFeature.version1 | VirtioFeature.indirectDescriptors | VirtioFeature.eventIndex
    static let queueSize: UInt16 = 16

    let memory: GuestMemory
    let transport: VirtioMMIOTransport
    let line: InterruptLine
    private var offered: [UInt16] = [0, 0]
    private var seen: [UInt16] = [0, 0]

    init(_ device: VirtioDevice) throws {
        memory = try GuestMemory(byteCount: 1 << 20)
        line = try InterruptLine(unconnected: 5)
        transport = try VirtioMMIOTransport(device: device, memory: memory, interrupt: line)
    }

    func read(_ offset: UInt64, size: Int = 4) -> UInt64 {
        transport.read(offset: offset, size: size)
    }

    func write(_ offset: UInt64, _ value: UInt64, size: Int = 4) {
        transport.writeRegister(offset: offset, size: size, value: value)
    }

    var status: UInt64 { read(0x70) }

    var deviceFeatures: UInt64 {
        write(0x14, 0)
        let low = read(0x10)
        write(0x14, 1)
        return low | read(0x10) << 32
    }

    /// Addresses of a queue's table, available ring and used ring.
    static func rings(_ queue: Int) -> (table: UInt64, available: UInt64, used: UInt64) {
        let base = 0x1000 + UInt64(queue) * 0x3000
        return (base, base + 0x1000, base + 0x2000)
    }

    /// Resets the device and negotiates. False if the device does not accept the features.
    func negotiate(_ features: UInt64) -> Bool {
        write(0x70, 0)
        expect(status == 0, "the status after a reset is \(status)")
        write(0x70, 1)
        write(0x70, 3)
        write(0x24, 0)
        write(0x20, features & 0xffff_ffff)
        write(0x24, 1)
        write(0x20, features >> 32)
        write(0x70, 11)
        return status == 11
    }

    func setUpQueue(_ queue: Int, size: UInt16 = FuzzDriver.queueSize) throws {
        let rings = FuzzDriver.rings(queue)
        try memory.zero(rings.table, byteCount: 0x3000)
        (offered[queue], seen[queue]) = (0, 0)
        write(0x30, UInt64(queue))
        write(0x38, UInt64(size))
        for (register, address) in [(UInt64(0x80), rings.table), (0x90, rings.available), (0xa0, rings.used)] {
            write(register, address & 0xffff_ffff)
            write(register + 4, address >> 32)
        }
        write(0x44, 1)
    }

    /// From reset to DRIVER_OK.
    func bringUp(_ features: UInt64 = FuzzDriver.ringFeatures, queues: Int = 1) throws -> Bool {
        guard negotiate(features) else { return false }
        for queue in 0..<queues { try setUpQueue(queue) }
        write(0x70, 15)
        return true
    }

    /// A valid chain at the start of the table.
    func offer(_ buffers: [(address: UInt64, length: UInt32, isWritable: Bool)], to queue: Int = 0, first: UInt64 = 0) throws {
        let rings = FuzzDriver.rings(queue)
        for (index, buffer) in buffers.enumerated() {
            let place = rings.table + 16 * (first + UInt64(index))
            try memory.store(buffer.address, at: place)
            try memory.store(buffer.length, at: place + 8)
            try memory.store(UInt16((index + 1 < buffers.count ? 1 : 0) | (buffer.isWritable ? 2 : 0)), at: place + 12)
            try memory.store(UInt16(first) + UInt16(index + 1), at: place + 14)
        }
        try memory.store(UInt16(first), at: rings.available + 4 + 2 * UInt64(offered[queue] % FuzzDriver.queueSize))
        offered[queue] &+= 1
        try memory.storeReleasing(offered[queue], at: rings.available + 2)
    }

    func kick(_ queue: Int = 0) {
        write(0x50, UInt64(queue))
    }

    func hasUsed(_ queue: Int = 0) -> Bool {
        (try? memory.loadAcquiring(FuzzDriver.rings(queue).used + 2)) != seen[queue]
    }

    /// Waits for a used chain, at most `seconds`. Returns its length.
    func take(_ queue: Int = 0, within seconds: Double = 30) throws -> UInt32? {
        var waited = 0.0
        while !hasUsed(queue) {
            guard waited < seconds else { return nil }
            usleep(waited < 0.001 ? 5 : 500)
            waited += waited < 0.001 ? 0.00005 : 0.0005
        }
        let slot = FuzzDriver.rings(queue).used + 4 + 8 * UInt64(seen[queue] % FuzzDriver.queueSize)
        seen[queue] &+= 1
        return try memory.load(slot + 4)
    }

    func counter(_ name: String) -> UInt64 {
        transport.counters().filter { $0.name == name }.reduce(0) { $0 + $1.value }
    }
}
