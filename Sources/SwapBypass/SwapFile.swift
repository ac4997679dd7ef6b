// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import VMMBase

/// The file of a swap store: made, or taken over from an earlier VM; emptied, locked, and formatted as Linux swap. Any thread.
final class SwapFile: Sendable {
    /// For whole requests of the disk; it also holds the lock.
    let storage: FileStorage
    let descriptor: FileDescriptor

    /// - Throws: `KVMError` when the file holds anything else, is in use, or can't be made.
    init(path: String, byteCount: UInt64) throws(KVMError) {
        let call = "swap file \(path)"
        let descriptor: FileDescriptor
        do throws(KVMError) {
            descriptor = try FileDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK)
        } catch {
            throw KVMError(call: call, errno: error.errno, advice: "give a file in a folder that can be written to")
        }
        try SwapFile.check(descriptor, call)
        if try SwapFile.size(descriptor, call) == 0 { try SwapFile.resize(descriptor, byteCount, call) }
        // Locked before anything in it is changed, so that two VMs can't have it.
        storage = try FileStorage(path: path, isReadOnly: false, sectorSize: Int(GuestMemory.pageSize))
        try SwapFile.resize(descriptor, 0, call)
        try SwapFile.resize(descriptor, byteCount, call)
        self.descriptor = descriptor
        let header = SwapHeader.bytes(pageCount: byteCount / GuestMemory.pageSize)
        // SAFETY: the array lives for the call, which reads as many bytes as it has.
        let written = unsafe header.withUnsafeBytes { unsafe pwrite(self.descriptor.rawValue, $0.baseAddress, $0.count, 0) }
        guard written == header.count else { throw KVMError(call: call, errno: written < 0 ? errno : ENOSPC) }
    }

    /// Bytes of the file system that the file takes.
    var allocatedByteCount: UInt64 {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { return 0 }
        return UInt64(max(0, status.st_blocks)) &* 512
    }

    /// pread(2) until the buffer is full.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(StorageError) {
        try transfer(buffer.count) { done in
            // SAFETY: done is less than the buffer's length, and pread writes no more than what is left of it.
            unsafe pread(descriptor.rawValue, buffer.baseAddress.map { unsafe $0 + done }, buffer.count - done, offset + done)
        }
    }

    /// pwrite(2) until all is written.
    func write(from buffer: UnsafeRawBufferPointer, at offset: Int) throws(StorageError) {
        try transfer(buffer.count) { done in
            // SAFETY: as in read.
            unsafe pwrite(descriptor.rawValue, buffer.baseAddress.map { unsafe $0 + done }, buffer.count - done, offset + done)
        }
    }

    private func transfer(_ byteCount: Int, _ call: (Int) -> Int) throws(StorageError) {
        var done = 0
        while done < byteCount {
            let bytes = call(done)
            if bytes < 0, errno == EINTR { continue }
            guard bytes > 0 else { throw .failed(errno: bytes < 0 ? errno : EIO) }
            done += bytes
        }
    }

    /// A file that is not empty has to be a swap file of ours: its contents are lost.
    private static func check(_ descriptor: borrowing FileDescriptor, _ call: String) throws(KVMError) {
        guard try size(descriptor, call) > 0 else { return }
        var page = [UInt8](repeating: 0, count: Int(GuestMemory.pageSize))
        // SAFETY: the array lives for the call, which fills at most as many bytes as it has.
        let bytes = unsafe page.withUnsafeMutableBytes { unsafe pread(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
        guard bytes == page.count, SwapHeader.isOurs(page) else {
            throw KVMError(
                call: call, errno: EEXIST, advice: "it holds something else, which would be lost: give another name, or remove it")
        }
    }

    private static func size(_ descriptor: borrowing FileDescriptor, _ call: String) throws(KVMError) -> off_t {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { throw KVMError(call: call, errno: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw KVMError(call: call, errno: EINVAL, advice: "it is not a regular file") }
        return status.st_size
    }

    private static func resize(_ descriptor: borrowing FileDescriptor, _ byteCount: UInt64, _ call: String) throws(KVMError) {
        guard ftruncate(descriptor.rawValue, off_t(clamping: byteCount)) == 0 else { throw KVMError(call: call, errno: errno) }
    }
}
