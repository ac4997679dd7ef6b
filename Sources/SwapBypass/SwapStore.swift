// SPDX-License-Identifier: Apache-2.0

public import SymVMM

internal import Glibc
internal import VMMBase

/// The swapped pages, and the storage of the swap disk: page s of the store is page s of the disk and of the window. Formatted as Linux swap. Any
/// thread.
///
/// In this process only the store accesses `mapping`; the guest accesses it through the window.
public class SwapStore: BlockStorage, @unchecked Sendable {
    /// The serial number by which a guest finds the disk.
    public static let serial = "symvmm-swap"

    /// The memory of the window.
    let mapping: MemoryMapping

    /// A sector is a page, because a guest writes only whole swapped pages.
    init(_ mapping: consuming MemoryMapping) {
        let byteCount = UInt64(mapping.byteCount)
        self.mapping = mapping
        super.init(byteCount: byteCount, sectorSize: Int(GuestMemory.pageSize), isReadOnly: false)
    }

    /// Makes the store that a configuration describes.
    static func make(_ configuration: SwapConfiguration) throws(VMMError) -> SwapStore {
        let bytes = configuration.byteCount
        guard bytes % GuestMemory.pageSize == 0, SwapConfiguration.byteCountRange.contains(bytes) else {
            throw VMMError(call: "swap store", errno: EINVAL, advice: "\(bytes) bytes: give whole pages, 1M to 1T")
        }
        guard let path = configuration.path else { return try MemoryStore(byteCount: bytes) }
        guard let budget = configuration.budget else { return try FileStore(path: path, byteCount: bytes) }
        return try BudgetStore(path: path, byteCount: bytes, budget: budget)
    }

    /// Bytes of host memory, or of the file's space, that the store uses now.
    public var residentByteCount: UInt64 { 0 }

    /// The slots that the guest can access through the window; nil: all.
    var residentSlots: ResidentSlotBitmap? { nil }

    /// The slots that the guest has accessed since the last pass of the ageing; nil: the store does not age its slots.
    var accessedSlots: ResidentSlotBitmap? { nil }

    /// The guest has touched a slot that it does not map: brings it back to the window's memory, if that is allowed and short. A vCPU's thread.
    ///
    /// - Returns: whether the guest may map the slot now.
    func bringBack(_ slot: UInt64) -> Bool { true }

    /// The guest has mapped pages around a slot that was resident. A vCPU's thread.
    ///
    /// - Parameter began: when the fault began, in nanoseconds of CLOCK_MONOTONIC.
    func recordMapping(since began: UInt64) {
    }

    /// Most bytes of memory that the store may use; nil: no limit.
    public var budget: UInt64? { nil }

    /// Counters of the store's tiers, in the order to print.
    var tierCounters: [(name: String, value: UInt64)] { [] }

    /// The state of the store's tiers; nil when it has only one.
    package var tierReport: SwapTiers? { nil }

    /// Sets the budget; false when the store has none.
    func setBudget(_ byteCount: UInt64) -> Bool { false }

    /// Copies all pages of another store of the same size. No other thread may use either store. Slots that the guest could access through the window
    /// stay accessible, even beyond the budget, because the guest may have mapped them.
    final func copyContents(from other: SwapStore) throws(VMMError) {
        guard byteCount == other.byteCount else {
            throw .user("a swap store of \(other.byteCount) bytes does not fit into \(byteCount) bytes")
        }
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(GuestMemory.pageSize), alignment: Int(GuestMemory.pageSize))
        // SAFETY: the buffer has one page, and is freed only after the loop that uses it.
        defer { unsafe page.deallocate() }
        for slot in 0..<byteCount / GuestMemory.pageSize {
            do throws(StorageError) {
                try unsafe other.readPage(slot, into: page)
                // A new store is zero except for the first page, the header of the swap area.
                let isEmpty = unsafe page.allSatisfy { $0 == 0 }
                let isResident = other.residentSlots?.contains(slot)
                guard !isEmpty || isResident == true else { continue }
                try unsafe writePage(slot, from: UnsafeRawBufferPointer(page), isResident: isResident ?? true)
            } catch {
                throw .host("swap store: page \(slot) cannot be copied")
            }
        }
    }

    /// Reads a slot. The slot must exist.
    func readPage(_ slot: UInt64, into page: UnsafeMutableRawBufferPointer) throws(StorageError) {
        // SAFETY: the slot lies in the mapping.
        unsafe page.copyMemory(from: UnsafeRawBufferPointer(start: mapping.baseAddress + Int(slot) * page.count, count: page.count))
    }

    /// Writes a slot that exists.
    ///
    /// - Parameter isResident: the guest can reach it through the window.
    func writePage(_ slot: UInt64, from page: UnsafeRawBufferPointer, isResident: Bool) throws(StorageError) {
        let offset = Int(slot) * page.count
        guard MemoryStore.populate(mapping, offset, page.count) else { throw .failed(errno: errno) }
        // SAFETY: the slot lies in the mapping, which has memory there.
        unsafe UnsafeMutableRawBufferPointer(start: mapping.baseAddress + offset, count: page.count).copyMemory(from: page)
    }

    /// The VM has ended: removes the guest's memory from the file. May be called more than once.
    func close() {
    }

    /// Does nothing, because swap does not outlive the VM.
    public override func flush() throws(StorageError) {
    }
}
