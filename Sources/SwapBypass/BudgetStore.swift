// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import Synchronization
internal import VMMBase

/// A swap store in the host's memory up to a budget, and in a file beyond it.
///
/// Three tiers: the window's memory, which the guest can map; compressed pages; the file. The store allocates and frees the window's memory in chunks
/// of 2 MiB. All other chunks are inaccessible (PROT_NONE), in the guest's window too: a guest that accesses one ends its VM and uses no memory.
/// Each page is in one place (`SlotPlace`). The guest brings pages back by faults and reads, `TierMover` moves chunks by `TierPolicy`.
final class BudgetStore: SwapStore, @unchecked Sendable {
    static let chunkBytes = 2 << 20
    static let pageBytes = Int(GuestMemory.pageSize)
    static let chunkPages = chunkBytes / pageBytes

    let file: SwapFile
    let resident: ResidentSlotBitmap
    /// The guest's module sets the bits of slots that the guest has accessed (SWAP_AGE). Hints only.
    let accessed: ResidentSlotBitmap
    let compressedBytes = CompressedBytes()
    let statistics = TierStatistics()
    /// What the mover has to do.
    let work = Monitor(TierWork())
    /// Held while a thread reads or writes the memory, so that no other thread makes it inaccessible.
    let tiers: Mutex<StoreTiers>

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
        let pages = byteCount / GuestMemory.pageSize
        resident = try ResidentSlotBitmap(pageCount: pages)
        accessed = try ResidentSlotBitmap(pageCount: pages)
        var initial = try StoreTiers(budget: budget, pageCount: Int(clamping: pages))
        // The header of the swap area, which belongs to no working set.
        initial.setPlace(0, .file)
        initial.idle[0] = .max
        tiers = Mutex(initial)
        super.init(memory)
    }

    override func close() {
        file.close()
    }

    override var residentSlots: ResidentSlotBitmap? { resident }

    override var accessedSlots: ResidentSlotBitmap? { accessed }

    override var budget: UInt64? { tiers.withLock { $0.budget } }

    /// A smaller budget takes effect by the mover.
    override func setBudget(_ byteCount: UInt64) -> Bool {
        tiers.withLock { $0.budget = byteCount }
        work.update { $0.needsRoom = true }
        return true
    }

    /// Bytes of the chunks in memory, and of compressed pages.
    override var residentByteCount: UInt64 { tiers.withLock { counted($0) } }

    override var tierCounters: [(name: String, value: UInt64)] { counters }

    package override var tierReport: SwapTiers? { report }

    override func bringBack(_ slot: UInt64) -> Bool { bringBackSlot(slot) }

    override func recordMapping(since began: UInt64) {
        statistics.memory.record(since: began)
    }

    override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        var position = try start(offset, vectors.byteCount)
        while vectors.byteCount > 0 {
            let bytes = min(BudgetStore.pageBytes, vectors.byteCount)
            switch tiers.withLock({ copyOut(&vectors, position, bytes, &$0) }) {
            case .copied: break
            case .damaged: throw .failed(errno: EIO)
            case .isInFile:
                let began = TickClock.monotonicNanoseconds()
                // SAFETY: the buffer has `bytes` bytes and lives for the call.
                try unsafe withPage(bytes) { page throws(StorageError) in
                    try unsafe file.read(into: page, at: position)
                    _ = unsafe vectors.copy(from: UnsafeRawBufferPointer(page))
                }
                statistics.file.record(since: began)
                request(position / BudgetStore.chunkBytes)
            }
            vectors.dropFirst(bytes)
            position += bytes
        }
    }

    override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        var position = try start(offset, vectors.byteCount)
        while vectors.byteCount > 0 {
            let bytes = min(BudgetStore.pageBytes, vectors.byteCount)
            if !tiers.withLock({ copyIn(&vectors, position, bytes, &$0) }) {
                // SAFETY: the buffer has `bytes` bytes and lives for the call.
                try unsafe withPage(bytes) { page throws(StorageError) in
                    _ = unsafe vectors.copy(to: page)
                    try unsafe writeToFile(UnsafeRawBufferPointer(page), at: position)
                }
            }
            vectors.dropFirst(bytes)
            position += bytes
        }
    }

    override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        let position = try start(offset, Int(clamping: byteCount))
        tiers.withLock { tiers in
            for place in stride(from: position, to: position + Int(clamping: byteCount), by: BudgetStore.pageBytes) {
                forget(place / BudgetStore.pageBytes, &tiers)
            }
        }
        try file.storage.discard(at: offset, byteCount: byteCount)
    }

    override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        try discard(at: offset, byteCount: byteCount)
        try file.storage.writeZeroes(at: offset, byteCount: byteCount, mayUnmap: mayUnmap)
    }

    override func readPage(_ slot: UInt64, into page: UnsafeMutableRawBufferPointer) throws(StorageError) {
        guard let start = page.baseAddress, page.count == BudgetStore.pageBytes else { throw .failed(errno: EINVAL) }
        // SAFETY: the buffer has one page.
        switch tiers.withLock({ unsafe copyOut(Int(clamping: slot), to: start, &$0) }) {
        case .copied: return
        case .damaged: throw .failed(errno: EIO)
        case .isInFile: try unsafe file.read(into: page, at: Int(slot) * page.count)
        }
    }

    override func writePage(_ slot: UInt64, from page: UnsafeRawBufferPointer, isResident: Bool) throws(StorageError) {
        let offset = Int(slot) * page.count
        guard isResident else { return try unsafe writeToFile(page, at: offset) }
        let isWritten = tiers.withLock { tiers in
            // The guest may have had it in memory before the budget was made smaller.
            let budget = tiers.budget
            tiers.budget = .max
            defer { tiers.budget = budget }
            guard open(offset / BudgetStore.chunkBytes, &tiers), MemoryStore.populate(mapping, offset, page.count) else { return false }
            // SAFETY: the chunk is open while we hold the lock.
            unsafe UnsafeMutableRawBufferPointer(start: mapping.baseAddress + offset, count: page.count).copyMemory(from: page)
            keepInMemory(Int(slot), &tiers)
            return true
        }
        guard isWritten else { throw .failed(errno: ENOMEM) }
    }

    // MARK: Under the lock

    private enum Copied {
        case copied, isInFile, damaged
    }

    /// Copies a page to the guest.
    private func copyOut(_ vectors: inout GuestVectors, _ position: Int, _ bytes: Int, _ tiers: inout StoreTiers) -> Copied {
        let slot = position / BudgetStore.pageBytes
        tiers.use(slot)
        if tiers.place(slot) == .memory {
            // SAFETY: start(_:_:) has checked the range, and the memory of a slot that is in memory is readable.
            _ = unsafe vectors.copy(from: UnsafeRawBufferPointer(start: mapping.baseAddress + position, count: bytes))
            statistics.memory.add()
            return .copied
        }
        return unsafe withUnsafeTemporaryAllocation(byteCount: BudgetStore.pageBytes, alignment: 16) { page in
            guard let start = page.baseAddress else { return .damaged }
            let began = TickClock.monotonicNanoseconds()
            // SAFETY: the buffer has one page.
            let copied = unsafe copyOut(slot, to: start, &tiers)
            guard copied == .copied else { return copied }
            _ = unsafe vectors.copy(from: UnsafeRawBufferPointer(rebasing: page.prefix(bytes)))
            if tiers.place(slot) == .compressed {
                statistics.compressed.record(since: began)
                request(slot / BudgetStore.chunkPages)
            }
            return .copied
        }
    }

    /// Copies a page.
    private func copyOut(_ slot: Int, to page: UnsafeMutableRawPointer, _ tiers: inout StoreTiers) -> Copied {
        switch tiers.place(slot) {
        case .none, .zero:
            // SAFETY: here and below, the callers give one page. The memory of a slot that is in memory is readable while this thread has the lock.
            _ = unsafe memset(page, 0, BudgetStore.pageBytes)
            return .copied
        case .memory:
            unsafe page.copyMemory(from: mapping.baseAddress + slot * BudgetStore.pageBytes, byteCount: BudgetStore.pageBytes)
            return .copied
        case .compressed:
            let chunk = tiers.chunks[slot / BudgetStore.chunkPages].compressed
            return unsafe chunk?.read(slot % BudgetStore.chunkPages, into: page) == true ? .copied : .damaged
        case .file:
            return .isInFile
        }
    }

    /// Copies a page from the guest; false when the page must go to the file.
    private func copyIn(_ vectors: inout GuestVectors, _ position: Int, _ bytes: Int, _ tiers: inout StoreTiers) -> Bool {
        let (slot, index) = (position / BudgetStore.pageBytes, position / BudgetStore.chunkBytes)
        if tiers.chunks[index].state != .open, bytes == BudgetStore.pageBytes, BudgetStore.isZero(vectors, bytes) {
            // It costs nothing, and needs no chunk. A move of the chunk goes on without it.
            forget(slot, &tiers)
            tiers.setPlace(slot, .zero)
            tiers.use(slot)
            return true
        }
        // Populating reports missing memory as an error; a write would raise SIGBUS.
        guard open(index, &tiers), MemoryStore.populate(mapping, position, bytes) else {
            forget(slot, &tiers)
            return false
        }
        // SAFETY: start(_:_:) has checked the range, and the chunk stays accessible while this thread holds the lock.
        _ = unsafe vectors.copy(to: UnsafeMutableRawBufferPointer(start: mapping.baseAddress + position, count: bytes))
        keepInMemory(slot, &tiers)
        tiers.use(slot)
        return true
    }

    /// Whether the guest's page is zero. The guest may change it meanwhile: then it has written zeroes before.
    private static func isZero(_ vectors: GuestVectors, _ bytes: Int) -> Bool {
        var left = bytes
        for index in 0..<vectors.count where left > 0 {
            // SAFETY: the range is guest memory, which stays mapped; only reads.
            let range = unsafe vectors[index]
            let count = min(left, range.count)
            guard unsafe isZero(UnsafeRawBufferPointer(rebasing: range.prefix(count))) else { return false }
            left -= count
        }
        return left == 0
    }

    /// Whether all bytes are zero.
    static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let start = bytes.baseAddress, bytes.count > 0 else { return true }
        // SAFETY: both ranges lie in the buffer: equal to itself one byte further, and the first byte is 0.
        return unsafe start.load(as: UInt8.self) == 0 && memcmp(start, start + 1, bytes.count - 1) == 0
    }

    // MARK: The file

    /// Writes a slot to the file. Waits while the mover writes slots of the same chunk.
    private func writeToFile(_ page: UnsafeRawBufferPointer, at position: Int) throws(StorageError) {
        let (slot, index) = (position / BudgetStore.pageBytes, position / BudgetStore.chunkBytes)
        while !tiers.withLock({ tiers in
            guard !tiers.chunks[index].isBusy else { return false }
            tiers.chunks[index].fileWriters += 1
            tiers.chunks[index].fileVersion &+= 1
            forget(slot, &tiers)
            tiers.setPlace(slot, .file)
            tiers.use(slot)
            return true
        }) {
            usleep(100)
        }
        defer { tiers.withLock { $0.chunks[index].fileWriters -= 1 } }
        statistics.writtenToFile.add()
        try unsafe file.write(from: page, at: position)
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
