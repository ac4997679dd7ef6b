// SPDX-License-Identifier: Apache-2.0

/// The guest's 65,536 ports and their devices. The machine builds the bus before the first vCPU runs and never changes it afterwards, so lookups
/// need no lock.
struct PIOBus: Sendable {
    /// A device's ports.
    struct Attachment: Sendable {
        let base: UInt16
        let count: Int
        let device: BusDevice
    }

    /// For each port, the index of its attachment plus one; 0 if the port has no device.
    private var table: [UInt8]
    private(set) var attachments: [Attachment] = []

    /// A bus with no device.
    init() {
        table = [UInt8](repeating: 0, count: 1 << 16)
    }

    /// Attaches a device at ports. Returns false, and changes nothing, if a port is taken or does not exist, or if the bus has 255 devices.
    mutating func attach(_ device: BusDevice, base: UInt16, count: Int) -> Bool {
        let end = Int(base) + count
        guard count > 0, end <= table.count, attachments.count < 255, table[Int(base)..<end].allSatisfy({ $0 == 0 }) else { return false }
        attachments.append(Attachment(base: base, count: count, device: device))
        for port in Int(base)..<end { table[port] = UInt8(attachments.count) }
        return true
    }

    /// Finds the device at a port, and the port's offset in the device's range.
    @inline(__always)
    func find(_ port: UInt16) -> (device: BusDevice, offset: UInt64)? {
        let entry = table[Int(port)]
        guard entry != 0 else { return nil }
        let attachment = attachments[Int(entry) &- 1]
        return (attachment.device, UInt64(port &- attachment.base))
    }
}
