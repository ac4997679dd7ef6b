// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import VMMBase

/// A swap store in anonymous memory of the host, in huge pages where the host has them: the guest's first access to a mapped page then costs a
/// nested page fault for 2 MiB instead of 4 KiB. (A memfd has huge pages only where the host's administrator allows them.)
final class MemoryStore: SwapStore, @unchecked Sendable {
    private static let hugePage = 2 << 20

    /// Reserves address space; the host allocates memory when pages are written.
    init(byteCount: UInt64) throws(VMMError) {
        let memory = try MemoryMapping(anonymous: Int(clamping: byteCount), alignment: MemoryStore.hugePage)
        // SAFETY: the whole mapping, which lives as long as the store. Both calls are advice only: without huge pages the store is slower.
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_HUGEPAGE)
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_DONTDUMP)
        super.init(memory)
        let header = SwapHeader.bytes(pageCount: byteCount / GuestMemory.pageSize)
        guard MemoryStore.populate(mapping, 0, header.count) else {
            throw MemoryStore.populateError()
        }
        // SAFETY: the header has one page, the mapping at least one.
        unsafe header.withUnsafeBytes { source in
            unsafe UnsafeMutableRawBufferPointer(start: mapping.baseAddress, count: source.count).copyMemory(from: source)
        }
    }

    /// Bytes that have host memory (mincore(2)); a huge page counts whole.
    override var residentByteCount: UInt64 {
        let page = Int(GuestMemory.pageSize)
        var states = [UInt8](repeating: 0, count: min(1 << 16, mapping.byteCount / page))
        var (offset, pages) = (0, UInt64(0))
        while offset < mapping.byteCount {
            let bytes = min(states.count * page, mapping.byteCount - offset)
            // SAFETY: the range lies in the mapping, and the array has a byte for each of its pages.
            guard unsafe mincore(mapping.baseAddress + offset, bytes, &states) == 0 else { return 0 }
            for index in 0..<bytes / page { pages &+= UInt64(states[index] & 1) }
            offset += bytes
        }
        return pages &* GuestMemory.pageSize
    }

    override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        // SAFETY: range(_:_:) returns only memory of the mapping, which the store owns.
        let range = try unsafe range(offset, vectors.byteCount)
        // SAFETY: the range lies in the mapping. If the guest writes to it through the window at the same time, the guest reads a mixture of both.
        guard unsafe vectors.copy(from: UnsafeRawBufferPointer(range)) == range.count else { throw .failed(errno: EIO) }
    }

    /// When the host has no memory, populating fails, and the write is an I/O error instead of a signal.
    override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        // SAFETY: range(_:_:) returns only memory of the mapping, which the store owns.
        let range = try unsafe range(offset, vectors.byteCount)
        guard MemoryStore.populate(mapping, Int(clamping: offset), range.count) else { throw .failed(errno: errno) }
        // SAFETY: as in read.
        guard unsafe vectors.copy(to: range) == range.count else { throw .failed(errno: EIO) }
    }

    /// Frees the pages' memory; they then read as zeroes. Linux discards whole clusters of 512 slots, each of which is a huge page here.
    override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        // SAFETY: range(_:_:) returns only memory of the mapping, which the store owns.
        let range = try unsafe range(offset, Int(clamping: byteCount))
        guard range.count > 0 else { return }
        // SAFETY: the range lies in the mapping, and nothing in this process relies on its contents.
        guard unsafe madvise(range.baseAddress, range.count, MADV_DONTNEED) == 0 else { throw .failed(errno: errno) }
    }

    override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        try discard(at: offset, byteCount: byteCount)
    }

    /// Allocates memory for a range (madvise(2), since Linux 5.14). False on an error, with errno.
    static func populate(_ mapping: borrowing MemoryMapping, _ offset: Int, _ byteCount: Int) -> Bool {
        guard byteCount > 0 else { return true }
        while true {
            // SAFETY: the callers have checked that the range lies in the mapping. Populating changes no contents.
            if unsafe madvise(mapping.baseAddress + offset, byteCount, MADV_POPULATE_WRITE) == 0 { return true }
            guard errno == EINTR || errno == EAGAIN else { return false }
        }
    }

    /// The error when the first page cannot be populated, by errno.
    static func populateError() -> VMMError {
        VMMError(
            call: "swap store", errno: errno,
            advice: errno == EINVAL ? "the host's kernel is older than Linux 5.14" : "the host has no memory left")
    }

    /// A range of the mapping; throws when the range does not lie in it.
    private func range(_ offset: UInt64, _ byteCount: Int) throws(StorageError) -> UnsafeMutableRawBufferPointer {
        let start = Int(clamping: offset)
        guard byteCount >= 0, start <= mapping.byteCount, byteCount <= mapping.byteCount - start else { throw .failed(errno: EINVAL) }
        // SAFETY: checked just above.
        return unsafe UnsafeMutableRawBufferPointer(start: mapping.baseAddress + start, count: byteCount)
    }
}
