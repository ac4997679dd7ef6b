// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import Synchronization
internal import VMMBase

/// One bit for each slot: the slot is resident, in the VMM's memory. Linux's bit order. The guest's module reads it through a read-only mapping.
///
/// The store writes it under its lock. Any thread, and the guest, may read it.
final class ResidentSlotBitmap: Sendable {
    let mapping: MemoryMapping
    private let pageCount: UInt64

    init(pageCount: UInt64) throws(VMMError) {
        let bytes = (pageCount / 8 &+ GuestMemory.pageSize) & ~(GuestMemory.pageSize &- 1)
        mapping = try MemoryMapping(anonymous: Int(clamping: bytes))
        self.pageCount = pageCount
    }

    /// Whether a slot is resident; false for a slot that does not exist.
    func contains(_ slot: UInt64) -> Bool {
        guard slot < pageCount else { return false }
        // SAFETY: the guard has checked the slot.
        return unsafe word(slot).pointee.load(ordering: .acquiring) & ResidentSlotBitmap.bit(slot) != 0
    }

    /// Sets a slot's bit. Does nothing for a slot that does not exist.
    ///
    /// - Returns: whether the slot was resident before.
    @discardableResult
    func set(_ slot: UInt64, _ isResident: Bool) -> Bool {
        guard slot < pageCount else { return false }
        let bit = ResidentSlotBitmap.bit(slot)
        // SAFETY: the guard has checked the slot.
        let before =
            isResident
            ? unsafe word(slot).pointee.bitwiseOr(bit, ordering: .releasing).oldValue
            : unsafe word(slot).pointee.bitwiseAnd(~bit, ordering: .releasing).oldValue
        return before & bit != 0
    }

    /// Clears all bits, and gives their memory back.
    func clear() {
        // SAFETY: the whole mapping; anonymous memory reads as zeroes then.
        _ = unsafe madvise(mapping.baseAddress, mapping.byteCount, MADV_DONTNEED)
    }

    private static func bit(_ slot: UInt64) -> UInt64 { 1 << (slot % 64) }

    private func word(_ slot: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
        // SAFETY: the callers have checked the slot, so its word lies in the mapping. Atomic<UInt64> has the layout of UInt64.
        unsafe mapping.baseAddress.assumingMemoryBound(to: Atomic<UInt64>.self) + Int(clamping: slot / 64)
    }
}
