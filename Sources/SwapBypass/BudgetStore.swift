// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import Synchronization
internal import VMMBase

/// A swap store in the host's memory up to a budget, and in a file beyond it. The guest swaps the slots in the file without bypass.
///
/// The store allocates and frees memory in chunks of 2 MiB. All other chunks are inaccessible (PROT_NONE), in the guest's window too: a guest that
/// accesses one ends its VM and uses no memory.
final class BudgetStore: SwapStore, @unchecked Sendable {
    private static let chunkBytes = 2 << 20
    private static let pageBytes = Int(GuestMemory.pageSize)

    /// A chunk's state. The store counts the chunk's memory from before the guest can access it until it is inaccessible *and* freed.
    private enum Chunk {
        /// Inaccessible; no memory, not counted.
        case absent
        /// Accessible: the guest can write to all of it. `used` slots are resident.
        case open(used: Int)
        /// Inaccessible, but madvise(2) failed to free its memory: counted until it succeeds, or until a slot is written again.
        case closed
    }

    private struct Chunks: ~Copyable {
        var budget: UInt64
        var states: [Chunk]
        var residentByteCount: UInt64 = 0
    }

    private let file: SwapFile
    private let resident: ResidentSlotBitmap
    /// Held while a thread reads or writes the memory, so that no other thread makes it inaccessible.
    private let chunks: Mutex<Chunks>

    init(path: String, byteCount: UInt64, budget: UInt64) throws(VMMError) {
        let memory = try MemoryMapping(anonymous: Int(clamping: byteCount), alignment: BudgetStore.chunkBytes)
        // SAFETY: the whole mapping, which lives as long as the store. The first two calls are advice only. Then a page shows that populating works,
        // and is freed. The last call makes all chunks inaccessible.
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_HUGEPAGE)
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_DONTDUMP)
        guard MemoryStore.populate(memory, 0, BudgetStore.pageBytes) else { throw MemoryStore.populateError() }
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_DONTNEED)
        guard unsafe mprotect(memory.baseAddress, memory.byteCount, PROT_NONE) == 0 else {
            throw VMMError(call: "swap store", errno: errno)
        }
        file = try SwapFile(path: path, byteCount: byteCount)
        resident = try ResidentSlotBitmap(pageCount: byteCount / GuestMemory.pageSize)
        let count = (memory.byteCount + BudgetStore.chunkBytes - 1) / BudgetStore.chunkBytes
        chunks = Mutex(Chunks(budget: budget, states: [Chunk](repeating: .absent, count: count)))
        super.init(memory)
    }

    override func close() {
        file.close()
    }

    override var residentSlots: ResidentSlotBitmap? { resident }

    override var budget: UInt64? { chunks.withLock { $0.budget } }

    /// A smaller budget frees nothing now: the store shrinks as the guest frees slots.
    override func setBudget(_ byteCount: UInt64) -> Bool {
        chunks.withLock { $0.budget = byteCount }
        return true
    }

    /// Bytes of the chunks in memory.
    override var residentByteCount: UInt64 { chunks.withLock { $0.residentByteCount } }

    override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        var position = try start(offset, vectors.byteCount)
        while vectors.byteCount > 0 {
            let bytes = min(BudgetStore.pageBytes, vectors.byteCount)
            if !chunks.withLock({ _ in copyOut(&vectors, position, bytes) }) {
                // SAFETY: the buffer has `bytes` bytes and lives for the call.
                try unsafe withPage(bytes) { page throws(StorageError) in
                    try unsafe file.read(into: page, at: position)
                    _ = unsafe vectors.copy(from: UnsafeRawBufferPointer(page))
                }
            }
            vectors.dropFirst(bytes)
            position += bytes
        }
    }

    override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        var position = try start(offset, vectors.byteCount)
        while vectors.byteCount > 0 {
            let bytes = min(BudgetStore.pageBytes, vectors.byteCount)
            if !chunks.withLock({ copyIn(&vectors, position, bytes, &$0) }) {
                // SAFETY: the buffer has `bytes` bytes and lives for the call.
                try unsafe withPage(bytes) { page throws(StorageError) in
                    _ = unsafe vectors.copy(to: page)
                    try unsafe file.write(from: UnsafeRawBufferPointer(page), at: position)
                }
            }
            vectors.dropFirst(bytes)
            position += bytes
        }
    }

    override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        let position = try start(offset, Int(clamping: byteCount))
        chunks.withLock { chunks in
            for place in stride(from: position, to: position + Int(clamping: byteCount), by: BudgetStore.pageBytes) {
                forget(UInt64(place / BudgetStore.pageBytes), &chunks)
            }
        }
        try file.storage.discard(at: offset, byteCount: byteCount)
    }

    override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        try discard(at: offset, byteCount: byteCount)
        try file.storage.writeZeroes(at: offset, byteCount: byteCount, mayUnmap: mayUnmap)
    }

    override func readPage(_ slot: UInt64, into page: UnsafeMutableRawBufferPointer) throws(StorageError) {
        let isRead = chunks.withLock { _ in
            guard resident.contains(slot) else { return false }
            // SAFETY: a resident slot lies in an open chunk of the mapping.
            unsafe page.copyMemory(from: UnsafeRawBufferPointer(start: mapping.baseAddress + Int(slot) * page.count, count: page.count))
            return true
        }
        if !isRead { try unsafe file.read(into: page, at: Int(slot) * page.count) }
    }

    override func writePage(_ slot: UInt64, from page: UnsafeRawBufferPointer, isResident: Bool) throws(StorageError) {
        let offset = Int(slot) * page.count
        guard isResident else { return try unsafe file.write(from: page, at: offset) }
        let isWritten = chunks.withLock { chunks in
            // The guest may have had it in memory before the budget was made smaller.
            let budget = chunks.budget
            chunks.budget = .max
            defer { chunks.budget = budget }
            let index = offset / BudgetStore.chunkBytes
            guard let used = open(index, &chunks), MemoryStore.populate(mapping, offset, page.count) else { return false }
            // SAFETY: the chunk is open while we hold the lock.
            unsafe UnsafeMutableRawBufferPointer(start: mapping.baseAddress + offset, count: page.count).copyMemory(from: page)
            if !resident.set(slot, true) { chunks.states[index] = .open(used: used + 1) }
            return true
        }
        guard isWritten else { throw .failed(errno: ENOMEM) }
    }

    // MARK: Under the lock

    /// Copies a page to the guest; false when the page is in the file.
    private func copyOut(_ vectors: inout GuestVectors, _ position: Int, _ bytes: Int) -> Bool {
        guard resident.contains(UInt64(position / BudgetStore.pageBytes)) else { return false }
        // SAFETY: start(_:_:) has checked the range, and a resident slot lies in an accessible chunk.
        _ = unsafe vectors.copy(from: UnsafeRawBufferPointer(start: mapping.baseAddress + position, count: bytes))
        return true
    }

    /// Copies a page from the guest; false when the page must go to the file.
    private func copyIn(_ vectors: inout GuestVectors, _ position: Int, _ bytes: Int, _ chunks: inout Chunks) -> Bool {
        let slot = UInt64(position / BudgetStore.pageBytes)
        let index = position / BudgetStore.chunkBytes
        // Populating reports missing memory as an error; a write would raise SIGBUS.
        guard let used = open(index, &chunks), MemoryStore.populate(mapping, position, bytes) else {
            forget(slot, &chunks)
            return false
        }
        // SAFETY: start(_:_:) has checked the range, and the chunk stays accessible while this thread holds the lock.
        _ = unsafe vectors.copy(to: UnsafeMutableRawBufferPointer(start: mapping.baseAddress + position, count: bytes))
        if !resident.set(slot, true) { chunks.states[index] = .open(used: used + 1) }
        return true
    }

    /// Makes a chunk accessible.
    ///
    /// - Returns: its resident slots; nil when the budget or mprotect(2) does not allow it. The caller then calls `forget(_:_:)`, which
    ///   makes a partly accessible chunk inaccessible again.
    private func open(_ index: Int, _ chunks: inout Chunks) -> Int? {
        if case .open(let used) = chunks.states[index] { return used }
        if case .absent = chunks.states[index] {
            let bytes = UInt64(BudgetStore.chunkBytes)
            guard chunks.residentByteCount <= chunks.budget, bytes <= chunks.budget &- chunks.residentByteCount else { return nil }
            chunks.residentByteCount &+= bytes
        }
        chunks.states[index] = .open(used: 0)
        return protect(index, PROT_READ | PROT_WRITE) ? 0 : nil
    }

    /// Removes a slot from memory; frees the chunk when it was the last one.
    private func forget(_ slot: UInt64, _ chunks: inout Chunks) {
        let index = Int(slot) * BudgetStore.pageBytes / BudgetStore.chunkBytes
        switch chunks.states[index] {
        case .absent: return
        case .closed: break
        case .open(let used):
            let left = resident.set(slot, false) ? used - 1 : used
            chunks.states[index] = .open(used: left)
            // First inaccessible, then freed: a guest that writes in between faults. In the other order it would allocate memory that the store
            // does not count. If mprotect(2) fails, the chunk stays accessible and counted, and the next slot that it loses tries again.
            guard left == 0, protect(index, PROT_NONE) else { return }
            chunks.states[index] = .closed
        }
        let (offset, bytes) = extent(index)
        // SAFETY: the chunk lies in the mapping, and no slot in it is resident.
        guard unsafe madvise(mapping.baseAddress + offset, bytes, MADV_DONTNEED) == 0 else { return }
        chunks.states[index] = .absent
        chunks.residentByteCount &-= UInt64(BudgetStore.chunkBytes)
    }

    private func protect(_ index: Int, _ protection: Int32) -> Bool {
        let (offset, bytes) = extent(index)
        // SAFETY: the chunk lies in the mapping; every thread that accesses it holds the lock, as this one does.
        return unsafe mprotect(mapping.baseAddress + offset, bytes, protection) == 0
    }

    private func extent(_ index: Int) -> (offset: Int, byteCount: Int) {
        let offset = index * BudgetStore.chunkBytes
        return (offset, min(BudgetStore.chunkBytes, mapping.byteCount - offset))
    }

    // MARK: Helpers

    /// Checks that a range lies in the store, and returns its start.
    private func start(_ offset: UInt64, _ byteCount: Int) throws(StorageError) -> Int {
        let start = Int(clamping: offset)
        guard byteCount >= 0, start <= mapping.byteCount, byteCount <= mapping.byteCount - start else { throw .failed(errno: EINVAL) }
        return start
    }

    private func withPage(_ bytes: Int, _ body: (UnsafeMutableRawBufferPointer) throws(StorageError) -> Void) throws(StorageError) {
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: BudgetStore.pageBytes)
        // SAFETY: the buffer is freed after `body` returns, which does not keep it.
        defer { unsafe page.deallocate() }
        try unsafe body(page)
    }
}
