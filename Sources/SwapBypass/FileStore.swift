// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
internal import VMMBase

/// A swap store in a file. The guest accesses the pages in the host's page cache, and the host writes them to the file when its memory is scarce.
///
/// The disk writes with pwrite(2), so a full file system is an I/O error in the guest.
final class FileStore: SwapStore, @unchecked Sendable {
    private let file: SwapFile

    init(path: String, byteCount: UInt64) throws(VMMError) {
        file = try SwapFile(path: path, byteCount: byteCount)
        super.init(try MemoryMapping(shared: file.descriptor, byteCount: Int(clamping: byteCount)))
    }

    override func close() {
        file.close()
    }

    /// Bytes that the file occupies on its file system.
    override var residentByteCount: UInt64 { file.allocatedByteCount }

    override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        try file.storage.read(into: &vectors, at: offset)
    }

    override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        try file.storage.write(from: &vectors, at: offset)
    }

    override func writePage(_ slot: UInt64, from page: UnsafeRawBufferPointer, isResident: Bool) throws(StorageError) {
        // SAFETY: the caller passes one page, which lives for the call.
        try unsafe file.write(from: page, at: Int(slot) * page.count)
    }

    override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        try file.storage.discard(at: offset, byteCount: byteCount)
    }

    override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        try file.storage.writeZeroes(at: offset, byteCount: byteCount, mayUnmap: mayUnmap)
    }
}
