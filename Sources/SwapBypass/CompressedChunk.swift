// SPDX-License-Identifier: Apache-2.0

internal import CLZ4
internal import Glibc
internal import Synchronization
internal import VMMBase

/// Counts the bytes of memory that all compressed chunks of a store have.
final class CompressedBytes: Sendable {
    private let bytes = Atomic<UInt64>(0)

    var count: UInt64 { bytes.load(ordering: .relaxed) }

    fileprivate func add(_ number: Int) {
        bytes.wrappingAdd(UInt64(number), ordering: .relaxed)
    }

    fileprivate func subtract(_ number: Int) {
        bytes.wrappingSubtract(UInt64(number), ordering: .relaxed)
    }
}

/// The compressed pages of one chunk (LZ4): a mapping of its own, so that giving it up frees its memory at once. It does not change once it is made.
///
/// First the length of each page's block, 0 for a page that it does not have, then the blocks. A page that LZ4 does not shorten is kept as it is. The
/// memory is counted from before it is written until it is unmapped.
@safe final class CompressedChunk: Sendable {
    private static let pageBytes = 4096
    private static let pageCount = 512
    private static let headerBytes = pageCount * MemoryLayout<UInt16>.size

    private let mapping: MemoryMapping
    private let account: CompressedBytes

    private init(_ mapping: consuming MemoryMapping, _ account: CompressedBytes) {
        self.mapping = mapping
        self.account = account
    }

    deinit {
        // The stored mapping is unmapped after this: give the memory back first, so that it is never there and not counted.
        // SAFETY: the whole mapping, which nobody else uses any more.
        _ = unsafe madvise(mapping.baseAddress, mapping.byteCount, MADV_DONTNEED)
        account.subtract(mapping.byteCount)
    }

    /// Bytes of memory.
    var byteCount: Int { mapping.byteCount }

    /// Whether it has a page.
    func contains(_ index: Int) -> Bool { length(index) > 0 }

    /// Decompresses a page.
    ///
    /// - Parameters:
    ///   - index: the page's number in the chunk.
    ///   - page: memory for one page.
    /// - Returns: false when there is no such page.
    func read(_ index: Int, into page: UnsafeMutableRawPointer) -> Bool {
        let length = length(index)
        guard length > 0 else { return false }
        var offset = CompressedChunk.headerBytes
        for other in 0..<index { offset += self.length(other) }
        // SAFETY: the blocks lie in the mapping one after the other: the builder wrote their lengths, and nobody else writes.
        let block = unsafe UnsafeRawPointer(mapping.baseAddress + offset)
        if length == CompressedChunk.pageBytes {
            unsafe page.copyMemory(from: block, byteCount: length)
            return true
        }
        return unsafe clz4_decompress(block, length, page, CompressedChunk.pageBytes) == 0
    }

    private func length(_ index: Int) -> Int {
        guard index >= 0, index < CompressedChunk.pageCount else { return 0 }
        // SAFETY: the header has a length for each page.
        return Int(unsafe mapping.baseAddress.load(fromByteOffset: index * MemoryLayout<UInt16>.size, as: UInt16.self))
    }

    /// Makes a compressed chunk, page by page in ascending order.
    @safe struct Builder: ~Copyable {
        private let mapping: MemoryMapping
        private let account: CompressedBytes
        private var used = CompressedChunk.headerBytes
        private var pages = 0
        private var next = 0
        private var counted = 0

        /// Reserves address space only.
        init(_ account: CompressedBytes) throws(VMMError) {
            let most = CompressedChunk.headerBytes + CompressedChunk.pageCount * CompressedChunk.pageBytes
            mapping = try MemoryMapping(anonymous: (most + CompressedChunk.pageBytes - 1) & ~(CompressedChunk.pageBytes - 1))
            // SAFETY: advice on the whole mapping: a huge page would have memory that is not counted.
            _ = unsafe madvise(mapping.baseAddress, mapping.byteCount, MADV_NOHUGEPAGE)
            self.account = account
        }

        /// Adds a page.
        ///
        /// - Parameters:
        ///   - index: the page's number in the chunk, more than that of the page before.
        ///   - page: the page, which other threads may change meanwhile.
        /// - Returns: false when the host has no memory.
        mutating func append(_ index: Int, _ page: UnsafeRawPointer) -> Bool {
            guard index >= next, index < CompressedChunk.pageCount else { return false }
            let needed = (used + CompressedChunk.pageBytes + CompressedChunk.pageBytes - 1) & ~(CompressedChunk.pageBytes - 1)
            if needed > counted {
                account.add(needed - counted)
                let start = counted
                counted = needed
                guard MemoryStore.populate(mapping, start, needed - start) else { return false }
            }
            // SAFETY: `needed` bytes have memory, of which this writes at most one page from `used` on, and a length in the header.
            var length = unsafe clz4_compress(page, CompressedChunk.pageBytes, mapping.baseAddress + used, CompressedChunk.pageBytes - 1)
            if length == 0 {
                length = CompressedChunk.pageBytes
                unsafe (mapping.baseAddress + used).copyMemory(from: page, byteCount: length)
            }
            unsafe mapping.baseAddress.storeBytes(
                of: UInt16(length), toByteOffset: index * MemoryLayout<UInt16>.size, as: UInt16.self)
            used += length
            pages += 1
            next = index + 1
            return true
        }

        /// Whether it saves at least a quarter of the pages' memory.
        var isWorthwhile: Bool { used <= (pages * CompressedChunk.pageBytes) / 4 * 3 }

        /// The chunk; nil when it has no page.
        consuming func finish() -> CompressedChunk? {
            guard pages > 0 else {
                cancel()
                return nil
            }
            let whole = (used + CompressedChunk.pageBytes - 1) & ~(CompressedChunk.pageBytes - 1)
            let (account, counted) = (self.account, self.counted)
            let chunk = CompressedChunk(mapping.shortened(to: whole), account)
            account.subtract(counted - whole)
            return chunk
        }

        /// Gives the memory back.
        consuming func cancel() {
            // SAFETY: the whole mapping, which is unmapped next.
            _ = unsafe madvise(mapping.baseAddress, mapping.byteCount, MADV_DONTNEED)
            account.subtract(counted)
        }
    }
}
