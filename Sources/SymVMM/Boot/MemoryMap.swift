// SPDX-License-Identifier: Apache-2.0

/// The memory map that boot_params passes to the guest: the E820 table of a PC's firmware (ACPI 6.5, section 15).
enum MemoryMap {
    /// A range of guest-physical addresses and what it is for.
    struct Entry: Equatable, Sendable {
        /// The table's type numbers.
        enum Kind: UInt32, Sendable {
            /// Memory for the guest to use.
            case usable = 1
            /// Not for general use by the guest.
            case reserved = 2
        }

        /// GPA of the first byte.
        let address: UInt64
        /// Length in bytes, not 0.
        let byteCount: UInt64
        /// The type.
        let kind: Kind
    }

    /// The entries for this memory, in the order of their addresses, none overlapping another.
    static func entries(for memory: GuestMemory) -> [Entry] {
        var entries: [Entry] = []
        func add(_ start: UInt64, _ end: UInt64, _ kind: Entry.Kind) {
            if end > start { entries.append(Entry(address: start, byteCount: end &- start, kind: kind)) }
        }
        add(0, BootLayout.extendedBIOSData, .usable)
        add(BootLayout.extendedBIOSData, BootLayout.videoMemory, .reserved)
        add(BootLayout.acpiTables, BootLayout.highMemory, .reserved)
        add(BootLayout.highMemory, memory.lowByteCount, .usable)
        add(BootLayout.interruptControllers, GuestMemory.holeEnd, .reserved)
        add(GuestMemory.holeEnd, GuestMemory.holeEnd &+ memory.highByteCount, .usable)
        return entries
    }
}
