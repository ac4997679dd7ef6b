// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// Allocates a machine's ports, MMIO ranges, interrupts, memory slots and guest-physical windows to devices and services, each only once.
///
/// The allocation depends only on the configuration, so that a restored guest finds its devices at the same addresses.
struct ResourceAllocator: Sendable {
    /// Interrupts for devices without a standard one: first the IO-APIC's inputs that no PC device uses, then those whose PC device is absent.
    static let freeInterrupts: [UInt32] = Array(16...23) + [5, 6, 7, 10, 11, 12, 14, 15]
    /// Guest-physical addresses for device registers, in the hole below 4 GiB.
    static let mmio: Range<UInt64> = 0xd000_0000..<0xd100_0000
    /// Registers begin at a multiple of this.
    private static let mmioAlignment: UInt64 = 0x1000

    /// Allocated ports, with their owners.
    private var ports: [(range: Range<Int>, owner: String)] = []
    /// Allocated interrupts, with their owners.
    private var interrupts: [UInt32: String] = [:]
    private var nextMMIO = ResourceAllocator.mmio.lowerBound
    private var nextSlot: UInt32
    private var windows: WindowAllocator

    /// Creates an allocator that has allocated nothing.
    ///
    /// - Parameters:
    ///   - windows: allocates windows above the guest's RAM.
    ///   - firstSlot: number of the first memory slot that RAM does not use.
    init(windows: WindowAllocator, firstSlot: UInt32) {
        self.windows = windows
        nextSlot = firstSlot
    }

    /// Allocates a legacy device's standard ports.
    mutating func takePorts(_ range: Range<Int>, for owner: String) throws(VMMError) {
        if let other = ports.first(where: { $0.range.overlaps(range) }) {
            throw VMMError(.bug, "\(owner): ports from 0x\(String(range.lowerBound, radix: 16)) belong to \(other.owner)")
        }
        ports.append((range, owner))
    }

    /// Allocates a legacy device's standard interrupt.
    mutating func takeInterrupt(_ gsi: UInt32, for owner: String) throws(VMMError) {
        if let other = interrupts[gsi] { throw VMMError(.bug, "\(owner): interrupt \(gsi) belongs to \(other)") }
        interrupts[gsi] = owner
    }

    /// Allocates the next free interrupt.
    mutating func allocateInterrupt(for owner: String) throws(VMMError) -> UInt32 {
        guard let gsi = ResourceAllocator.freeInterrupts.first(where: { interrupts[$0] == nil }) else {
            throw .user("\(owner): too many devices: all \(ResourceAllocator.freeInterrupts.count) free interrupts are taken")
        }
        interrupts[gsi] = owner
        return gsi
    }

    /// Allocates the next free range for registers, and returns its GPA.
    mutating func allocateMMIO(byteCount: UInt64, for owner: String) throws(VMMError) -> UInt64 {
        let (padded, overflow) = byteCount.addingReportingOverflow(ResourceAllocator.mmioAlignment - 1)
        let length = padded & ~(ResourceAllocator.mmioAlignment - 1)
        guard !overflow, length > 0, length <= ResourceAllocator.mmio.upperBound - nextMMIO else {
            throw .user("\(owner): too many devices: no room for its registers")
        }
        defer { nextMMIO += length }
        return nextMMIO
    }

    /// Allocates the next range of guest-physical address space above RAM, and returns its GPA. Nil if the guest cannot address it.
    mutating func allocateWindow(byteCount: UInt64) -> UInt64? {
        windows.allocate(byteCount: byteCount)
    }

    /// Whether a range lies in a window.
    func isInWindow(_ gpa: UInt64, byteCount: UInt64, ramEnd: UInt64) -> Bool {
        windows.contains(gpa, byteCount: byteCount, ramEnd: ramEnd)
    }

    /// Allocates the next KVM memory slot.
    mutating func allocateMemorySlot() -> UInt32 {
        defer { nextSlot &+= 1 }
        return nextSlot
    }
}
