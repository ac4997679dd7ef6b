// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import VMMBase

/// A swap store in the host's anonymous memory, in huge pages where the host has them: the guest's first touch of a mapped page then costs a
/// nested page fault for 2 MiB and not for 4 KiB. (A memfd has huge pages only where the host's administrator has allowed it.)
final class MemoryStore: SwapStore, @unchecked Sendable {
    private static let hugePage = 2 << 20

    /// Reserves address space; memory comes when pages are written.
    init(byteCount: UInt64) throws(KVMError) {
        let memory = try MemoryMapping(anonymous: Int(clamping: byteCount), alignment: MemoryStore.hugePage)
        // SAFETY: the whole mapping, which stays. Both are advice only: without huge pages it is slower, and nothing else.
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_HUGEPAGE)
        _ = unsafe madvise(memory.baseAddress, memory.byteCount, MADV_DONTDUMP)
        super.init(memory)
        let header = SwapHeader.bytes(pageCount: byteCount / GuestMemory.pageSize)
        guard MemoryStore.populate(mapping, 0, header.count) else {
            throw MemoryStore.populateError()
        }
        // SAFETY: the header is a page, and the mapping has at least one.
        unsafe header.withUnsafeBytes { source in
            unsafe UnsafeMutableRawBufferPointer(start: mapping.baseAddress, count: source.count).copyMemory(from: source)
        }
    }

    /// Bytes that have host memory (mincore(2)), huge pages with all of their bytes.
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
        let range = try unsafe range(offset, vectors.byteCount)
        // SAFETY: the range lies in the mapping. The guest may write to it through the window meanwhile: then it gets a mixture, its own affair.
        guard unsafe vectors.copy(from: UnsafeRawBufferPointer(range)) == range.count else { throw .failed(errno: EIO) }
    }

    /// A host without memory is an error of the disk where the kernel says so, and not a signal.
    override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        let range = try unsafe range(offset, vectors.byteCount)
        guard MemoryStore.populate(mapping, Int(clamping: offset), range.count) else { throw .failed(errno: errno) }
        // SAFETY: as in read.
        guard unsafe vectors.copy(to: range) == range.count else { throw .failed(errno: EIO) }
    }

    /// Gives the pages' memory back to the host; they read as zeroes then. Linux discards whole clusters of 512 slots, which are huge pages here.
    override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        let range = try unsafe range(offset, Int(clamping: byteCount))
        guard range.count > 0 else { return }
        // SAFETY: the range lies in the mapping, whose pages nobody in this process relies on.
        guard unsafe madvise(range.baseAddress, range.count, MADV_DONTNEED) == 0 else { throw .failed(errno: errno) }
    }

    override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        try discard(at: offset, byteCount: byteCount)
    }

    /// Has the kernel back a range with memory (madvise(2), since Linux 5.14). False: it has none, says errno.
    static func populate(_ mapping: borrowing MemoryMapping, _ offset: Int, _ byteCount: Int) -> Bool {
        guard byteCount > 0 else { return true }
        while true {
            // SAFETY: the callers have checked that the range lies in the mapping; populating changes no contents.
            if unsafe madvise(mapping.baseAddress + offset, byteCount, MADV_POPULATE_WRITE) == 0 { return true }
            guard errno == EINTR || errno == EAGAIN else { return false }
        }
    }

    /// What to say when the first page can't be had, by errno.
    static func populateError() -> KVMError {
        KVMError(
            call: "swap store", errno: errno,
            advice: errno == EINVAL ? "the host's kernel is older than Linux 5.14" : "the host has no memory left")
    }

    /// A range of the mapping; an error for what does not lie in it.
    private func range(_ offset: UInt64, _ byteCount: Int) throws(StorageError) -> UnsafeMutableRawBufferPointer {
        let start = Int(clamping: offset)
        guard byteCount >= 0, start <= mapping.byteCount, byteCount <= mapping.byteCount - start else { throw .failed(errno: EINVAL) }
        // SAFETY: checked just above.
        return unsafe UnsafeMutableRawBufferPointer(start: mapping.baseAddress + start, count: byteCount)
    }
}
