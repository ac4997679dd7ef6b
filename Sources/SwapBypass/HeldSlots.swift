// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import Synchronization
internal import VMMBase

/// Which slots are in memory, a bit each, as Linux numbers bits. The guest's module reads it, and can't write to it.
///
/// Written by one thread at a time (the store's lock), read by any, the guest's too.
final class HeldSlots: Sendable {
    let mapping: MemoryMapping
    private let pageCount: UInt64

    init(pageCount: UInt64) throws(KVMError) {
        let bytes = (pageCount / 8 &+ GuestMemory.pageSize) & ~(GuestMemory.pageSize &- 1)
        mapping = try MemoryMapping(anonymous: Int(clamping: bytes))
        self.pageCount = pageCount
    }

    /// False too for a slot that does not exist.
    func contains(_ slot: UInt64) -> Bool {
        guard slot < pageCount else { return false }
        return unsafe word(slot).pointee.load(ordering: .acquiring) & HeldSlots.bit(slot) != 0
    }

    /// The slot has to exist. Returns whether it was in memory before.
    @discardableResult
    func set(_ slot: UInt64, _ isHeld: Bool) -> Bool {
        guard slot < pageCount else { return false }
        let bit = HeldSlots.bit(slot)
        let before =
            isHeld
            ? unsafe word(slot).pointee.bitwiseOr(bit, ordering: .releasing).oldValue
            : unsafe word(slot).pointee.bitwiseAnd(~bit, ordering: .releasing).oldValue
        return before & bit != 0
    }

    private static func bit(_ slot: UInt64) -> UInt64 { 1 << (slot % 64) }

    private func word(_ slot: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
        // SAFETY: callers have checked the slot, whose word lies in the mapping; Atomic<UInt64> has the layout of UInt64.
        unsafe mapping.baseAddress.assumingMemoryBound(to: Atomic<UInt64>.self) + Int(clamping: slot / 64)
    }
}
