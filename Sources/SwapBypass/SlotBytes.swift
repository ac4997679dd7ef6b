// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// Where the page of a slot is.
enum SlotPlace: UInt8 {
    /// The guest has written nothing: reads as zeroes.
    case none = 0
    /// The guest has written zeroes, which take no memory.
    case zero
    /// In the window's memory.
    case memory
    /// In the chunk's compressed pages.
    case compressed
    /// In the file.
    case file
}

/// A byte for each slot, 0 at first. The kernel allocates its memory when it is first written.
@safe struct SlotBytes: ~Copyable {
    private let mapping: MemoryMapping
    /// Number of slots.
    let count: Int

    init(count: Int) throws(VMMError) {
        mapping = try MemoryMapping(anonymous: (max(count, 1) + 4095) & ~4095)
        self.count = count
    }

    /// A slot's byte: 0 for a slot that does not exist, and then a write has no effect.
    subscript(slot: Int) -> UInt8 {
        get {
            guard slot >= 0, slot < count else { return 0 }
            // SAFETY: the guard has checked the slot, and the mapping has a byte for each.
            return unsafe mapping.baseAddress.load(fromByteOffset: slot, as: UInt8.self)
        }
        nonmutating set {
            guard slot >= 0, slot < count else { return }
            // SAFETY: as above.
            unsafe mapping.baseAddress.storeBytes(of: newValue, toByteOffset: slot, as: UInt8.self)
        }
    }
}
