// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
internal import VMMBase

/// A swap store in a file: the host writes pages out when it is short of memory itself. The guest reaches them through the file's page cache.
///
/// The disk writes by pwrite(2), so that a full file system is an I/O error in the guest.
final class FileStore: SwapStore, @unchecked Sendable {
    private let file: SwapFile

    init(path: String, byteCount: UInt64) throws(KVMError) {
        file = try SwapFile(path: path, byteCount: byteCount)
        super.init(try MemoryMapping(shared: file.descriptor, byteCount: Int(clamping: byteCount)))
    }

    override func close() {
        file.close()
    }

    /// Bytes of the file system that the file takes.
    override var residentByteCount: UInt64 { file.allocatedByteCount }

    override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        try file.storage.read(into: &vectors, at: offset)
    }

    override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        try file.storage.write(from: &vectors, at: offset)
    }

    override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        try file.storage.discard(at: offset, byteCount: byteCount)
    }

    override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        try file.storage.writeZeroes(at: offset, byteCount: byteCount, mayUnmap: mayUnmap)
    }
}
