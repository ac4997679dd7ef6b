// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import Synchronization
internal import VMMBase

/// A swap store in the host's memory up to a budget, and in a file beyond it. What is in the file is swapped in the ordinary way.
///
/// Memory is taken and given back in chunks of 2 MiB. Chunks that the store does not hold are closed to everybody, the guest's window too: a
/// guest that goes there all the same ends itself, and takes no memory.
final class BudgetStore: SwapStore, @unchecked Sendable {
    private static let chunkBytes = 2 << 20
    private static let pageBytes = Int(GuestMemory.pageSize)

    /// What the store has of a chunk. Its memory is counted from before the guest can reach it until it is closed *and* given back.
    private enum Chunk {
        /// Closed to everybody; no memory, not counted.
        case absent
        /// Open, so that the guest may write all over it, with so many slots of it in use.
        case open(used: Int)
        /// Closed, but the host has not taken its memory back: counted until it does, or a slot is written again.
        case closed
    }

    private struct Chunks: ~Copyable {
        var budget: UInt64
        var states: [Chunk]
        var heldByteCount: UInt64 = 0
    }

    private let file: SwapFile
    private let held: HeldSlots
    /// Memory is read and written under this lock, so that nobody closes it meanwhile.
    private let chunks: Mutex<Chunks>

    init(path: String, byteCount: UInt64, budget: UInt64) throws(KVMError) {
        let memory = try MemoryMapping(anonymous: Int(clamping: byteCount), alignment: BudgetStore.chunkBytes)
        // SAFETY: the whole mapping, which stays. The first two are advice only; then a page shows that populating works, and is given back;
        // the last closes what is not held.
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_HUGEPAGE)
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_DONTDUMP)
        guard MemoryStore.populate(memory, 0, BudgetStore.pageBytes) else { throw MemoryStore.populateError() }
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_DONTNEED)
        guard unsafe mprotect(memory.baseAddress, memory.byteCount, PROT_NONE) == 0 else {
            throw KVMError(call: "swap store", errno: errno)
        }
        file = try SwapFile(path: path, byteCount: byteCount)
        held = try HeldSlots(pageCount: byteCount / GuestMemory.pageSize)
        let count = (memory.byteCount + BudgetStore.chunkBytes - 1) / BudgetStore.chunkBytes
        chunks = Mutex(Chunks(budget: budget, states: [Chunk](repeating: .absent, count: count)))
        super.init(memory)
    }

    override func close() {
        file.close()
    }

    override var heldSlots: HeldSlots? { held }

    override var budget: UInt64? { chunks.withLock { $0.budget } }

    /// A smaller budget takes nothing away: the store shrinks as slots are freed.
    override func setBudget(_ byteCount: UInt64) -> Bool {
        chunks.withLock { $0.budget = byteCount }
        return true
    }

    /// Bytes of the chunks that it holds in memory.
    override var residentByteCount: UInt64 { chunks.withLock { $0.heldByteCount } }

    override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        var position = try start(offset, vectors.byteCount)
        while vectors.byteCount > 0 {
            let bytes = min(BudgetStore.pageBytes, vectors.byteCount)
            if !chunks.withLock({ _ in copyOut(&vectors, position, bytes) }) {
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

    // MARK: Under the lock

    /// Copies a page to the guest; false when it is in the file.
    private func copyOut(_ vectors: inout GuestVectors, _ position: Int, _ bytes: Int) -> Bool {
        guard held.contains(UInt64(position / BudgetStore.pageBytes)) else { return false }
        // SAFETY: start(_:_:) has checked the range, and a slot that is held lies in an open chunk.
        _ = unsafe vectors.copy(from: UnsafeRawBufferPointer(start: mapping.baseAddress + position, count: bytes))
        return true
    }

    /// Copies a page from the guest; false when it has to go to the file.
    private func copyIn(_ vectors: inout GuestVectors, _ position: Int, _ bytes: Int, _ chunks: inout Chunks) -> Bool {
        let slot = UInt64(position / BudgetStore.pageBytes)
        let index = position / BudgetStore.chunkBytes
        // The chunk is open. Populating tells of missing memory without a signal.
        guard let used = open(index, &chunks), MemoryStore.populate(mapping, position, bytes) else {
            forget(slot, &chunks)
            return false
        }
        // SAFETY: start(_:_:) has checked the range, whose chunk is open while we hold the lock.
        _ = unsafe vectors.copy(to: UnsafeMutableRawBufferPointer(start: mapping.baseAddress + position, count: bytes))
        if !held.set(slot, true) { chunks.states[index] = .open(used: used + 1) }
        return true
    }

    /// Slots in use of a chunk that is open, or has just been opened; nil when that can't be. Who gets nil forgets a slot of the chunk, so that
    /// one that was opened in part is closed again.
    private func open(_ index: Int, _ chunks: inout Chunks) -> Int? {
        if case .open(let used) = chunks.states[index] { return used }
        if case .absent = chunks.states[index] {
            let bytes = UInt64(BudgetStore.chunkBytes)
            guard chunks.heldByteCount <= chunks.budget, bytes <= chunks.budget &- chunks.heldByteCount else { return nil }
            chunks.heldByteCount &+= bytes
        }
        chunks.states[index] = .open(used: 0)
        return protect(index, PROT_READ | PROT_WRITE) ? 0 : nil
    }

    /// The slot is not in memory any more; gives its chunk back when it was the last one.
    private func forget(_ slot: UInt64, _ chunks: inout Chunks) {
        let index = Int(slot) * BudgetStore.pageBytes / BudgetStore.chunkBytes
        switch chunks.states[index] {
        case .absent: return
        case .closed: break
        case .open(let used):
            let left = held.set(slot, false) ? used - 1 : used
            chunks.states[index] = .open(used: left)
            // First closed, then given back: a guest that writes there in between faults. In the other order it would bring back memory that
            // nobody counts. A chunk that can't be closed stays open and counted; the next slot that it loses tries again.
            guard left == 0, protect(index, PROT_NONE) else { return }
            chunks.states[index] = .closed
        }
        let (offset, bytes) = extent(index)
        // SAFETY: the chunk lies in the mapping, and the store has nothing in it.
        guard unsafe madvise(mapping.baseAddress + offset, bytes, MADV_DONTNEED) == 0 else { return }
        chunks.states[index] = .absent
        chunks.heldByteCount &-= UInt64(BudgetStore.chunkBytes)
    }

    private func protect(_ index: Int, _ protection: Int32) -> Bool {
        let (offset, bytes) = extent(index)
        // SAFETY: the chunk lies in the mapping; who uses it holds the lock, as we do.
        return unsafe mprotect(mapping.baseAddress + offset, bytes, protection) == 0
    }

    private func extent(_ index: Int) -> (offset: Int, byteCount: Int) {
        let offset = index * BudgetStore.chunkBytes
        return (offset, min(BudgetStore.chunkBytes, mapping.byteCount - offset))
    }

    // MARK: Beside it

    /// The offset of a range that was checked to lie in the store.
    private func start(_ offset: UInt64, _ byteCount: Int) throws(StorageError) -> Int {
        let start = Int(clamping: offset)
        guard byteCount >= 0, start <= mapping.byteCount, byteCount <= mapping.byteCount - start else { throw .failed(errno: EINVAL) }
        return start
    }

    private func withPage(_ bytes: Int, _ body: (UnsafeMutableRawBufferPointer) throws(StorageError) -> Void) throws(StorageError) {
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: BudgetStore.pageBytes)
        defer { unsafe page.deallocate() }
        try unsafe body(page)
    }
}
