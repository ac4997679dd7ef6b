// SPDX-License-Identifier: Apache-2.0

/// The device registers in guest-physical address space. The machine builds the bus before the first vCPU runs and never changes it afterwards, so
/// lookups need no lock.
struct MMIOBus: Sendable {
    /// A device's range.
    struct Attachment: Sendable {
        let base: UInt64
        let byteCount: UInt64
        let device: BusDevice
    }

    /// In the order of their addresses.
    private(set) var attachments: [Attachment] = []

    /// A bus with no device.
    init() {}

    /// Attaches a device at a range. Returns false, and changes nothing, if the range is empty, overlaps another one, or overflows.
    mutating func attach(_ device: BusDevice, base: UInt64, byteCount: UInt64) -> Bool {
        let (end, overflow) = base.addingReportingOverflow(byteCount)
        guard byteCount > 0, !overflow else { return false }
        guard attachments.allSatisfy({ end <= $0.base || base >= $0.base + $0.byteCount }) else { return false }
        let place = attachments.firstIndex { $0.base > base } ?? attachments.count
        attachments.insert(Attachment(base: base, byteCount: byteCount, device: device), at: place)
        return true
    }

    /// Finds the device at an address, and the offset of the address in the device's range. Nil if the access does not lie in one range.
    @inline(__always)
    func find(_ address: UInt64, size: Int) -> (device: BusDevice, offset: UInt64)? {
        var low = 0
        var high = attachments.count
        while low < high {
            let middle = (low &+ high) >> 1
            if attachments[middle].base <= address { low = middle &+ 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let attachment = attachments[low &- 1]
        let offset = address &- attachment.base
        guard offset < attachment.byteCount, UInt64(size) <= attachment.byteCount &- offset else { return nil }
        return (attachment.device, offset)
    }
}
