// SPDX-License-Identifier: Apache-2.0

/// The guest's 65,536 ports and the devices behind them. Built before the first vCPU runs and never changed after, so reading needs no lock.
struct PIOBus: Sendable {
    /// A device's ports.
    struct Attachment: Sendable {
        let base: UInt16
        let count: Int
        let device: BusDevice
    }

    /// For each port the index of its attachment plus one; 0 is nothing.
    private var table: [UInt8]
    private(set) var attachments: [Attachment] = []

    /// A bus with no device.
    init() {
        table = [UInt8](repeating: 0, count: 1 << 16)
    }

    /// Puts a device on ports. Returns false, and changes nothing, when some of them are taken, do not exist, or 255 devices are there already.
    mutating func attach(_ device: BusDevice, base: UInt16, count: Int) -> Bool {
        let end = Int(base) + count
        guard count > 0, end <= table.count, attachments.count < 255, table[Int(base)..<end].allSatisfy({ $0 == 0 }) else { return false }
        attachments.append(Attachment(base: base, count: count, device: device))
        for port in Int(base)..<end { table[port] = UInt8(attachments.count) }
        return true
    }

    /// The device at a port and the port's offset in its range.
    @inline(__always)
    func find(_ port: UInt16) -> (device: BusDevice, offset: UInt64)? {
        let entry = table[Int(port)]
        guard entry != 0 else { return nil }
        let attachment = attachments[Int(entry) &- 1]
        return (attachment.device, UInt64(port &- attachment.base))
    }
}
