// SPDX-License-Identifier: Apache-2.0

public import SymVMM

internal import Glibc
internal import VMMBase

/// Where swapped pages are, and the disk that an unmodified guest swaps on: page s of the store is page s of the disk and of the window.
/// Already formatted as Linux swap. Any thread.
///
/// Nothing in this process but the store itself reads or writes `mapping`; the guest does, through the window.
public class SwapStore: BlockStorage, @unchecked Sendable {
    /// The serial number by which a guest finds the disk.
    public static let serial = "symvmm-swap"

    /// The pages, for the window.
    let mapping: MemoryMapping

    /// Its sectors are pages: nobody writes parts of a swapped page.
    init(_ mapping: consuming MemoryMapping) {
        let byteCount = UInt64(mapping.byteCount)
        self.mapping = mapping
        super.init(byteCount: byteCount, sectorSize: Int(GuestMemory.pageSize), isReadOnly: false)
    }

    /// Makes the store that a configuration asks for.
    static func make(_ configuration: SwapConfiguration) throws(KVMError) -> SwapStore {
        let bytes = configuration.byteCount
        guard bytes % GuestMemory.pageSize == 0, SwapConfiguration.byteCountRange.contains(bytes) else {
            throw KVMError(call: "swap store", errno: EINVAL, advice: "\(bytes) bytes: give whole pages, 1M to 1T")
        }
        guard let path = configuration.path else { return try MemoryStore(byteCount: bytes) }
        guard let budget = configuration.budget else { return try FileStore(path: path, byteCount: bytes) }
        return try BudgetStore(path: path, byteCount: bytes, budget: budget)
    }

    /// Bytes of host memory, or of the file's space, that the store holds now.
    public var residentByteCount: UInt64 { 0 }

    /// Which slots can be reached through the window; nil: all.
    var heldSlots: HeldSlots? { nil }

    /// The most memory that the store may take, in bytes; nil: it has no such bound.
    public var budget: UInt64? { nil }

    /// Changes it; false when the store has none.
    func setBudget(_ byteCount: UInt64) -> Bool { false }

    /// The run is over, and nobody uses the store any more: leaves nothing of the guest's memory on a disk. May be called more than once.
    func close() {
    }

    /// Nothing to do: swap does not outlive the VM.
    public override func flush() throws(StorageError) {
    }
}
