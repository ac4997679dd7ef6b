// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import SymVMM
internal import VMMBase

/// The file of a swap store: made, or taken over from an earlier VM; emptied, locked, and formatted as Linux swap. Any thread.
///
/// It holds the guest's memory, so nobody but its owner may ever be able to read it: it is made with mode 0600, and one that exists has to be
/// a regular file of ours that is closed to others. It is opened once, so that what was checked and locked is what is used. At the end it is
/// emptied, and removed when it was made here.
final class SwapFile: Sendable {
    /// For whole requests of the disk.
    let storage: FileStorage
    let descriptor: FileDescriptor
    private let path: String
    private let isMadeHere: Bool
    private let isClosed = Atomic<Bool>(false)

    /// - Throws: `KVMError` when the file holds anything else, is another's, may be read by others, is in use, or can't be made.
    init(path: String, byteCount: UInt64) throws(KVMError) {
        let call = "swap file \(path)"
        let opened = try SwapFile.open(path, call)
        do throws(KVMError) {
            try SwapFile.resize(opened.descriptor, 0, call)
            try SwapFile.resize(opened.descriptor, byteCount, call)
            try SwapFile.writeHeader(opened.descriptor, byteCount, call)
            storage = try FileStorage(locked: opened.descriptor.duplicate(), call, sectorSize: Int(GuestMemory.pageSize))
        } catch {
            SwapFile.discard(opened.descriptor, opened.isNew ? path : nil)
            throw error
        }
        self.path = path
        isMadeHere = opened.isNew
        descriptor = opened.descriptor
    }

    deinit {
        close()
    }

    /// Empties the file, and removes it when it was made here. Nobody uses it any more; what comes all the same is lost. Only the first call does
    /// something.
    func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        SwapFile.discard(descriptor, isMadeHere ? path : nil)
    }

    private static func discard(_ descriptor: borrowing FileDescriptor, _ path: String?) {
        _ = ftruncate(descriptor.rawValue, 0)
        // SAFETY: the string lives for the call.
        if let path, isAt(path, descriptor) { _ = unsafe unlink(path) }
    }

    // MARK: Opening

    private struct Opened: ~Copyable {
        let descriptor: FileDescriptor
        let isNew: Bool
    }

    /// Opens and locks the file, or makes it; nothing in it is changed.
    private static func open(_ path: String, _ call: String) throws(KVMError) -> Opened {
        // Again when another process has made or removed the file between two steps.
        for _ in 0..<100 {
            if let made = try open(path, O_CREAT | O_EXCL, unless: EEXIST, call) {
                // On an error nothing is removed: who was quicker with the lock has taken the file over.
                try FileStorage.lockAlone(made, call)
                return Opened(descriptor: made, isNew: true)
            }
            guard let found = try open(path, O_NOFOLLOW, unless: ENOENT, call) else { continue }
            try checkOwner(found, call)
            try FileStorage.lockAlone(found, call)
            // Its last user may have removed it before the lock was ours.
            guard isAt(path, found) else { continue }
            try checkContents(found, call)
            return Opened(descriptor: found, isNew: false)
        }
        throw KVMError(call: call, errno: EBUSY, advice: "other processes make and remove it: give another name")
    }

    /// nil: the call failed with this error.
    private static func open(_ path: String, _ flags: Int32, unless expected: Int32, _ call: String) throws(KVMError) -> FileDescriptor? {
        do throws(KVMError) {
            return try FileDescriptor.open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | flags, mode: 0o600)
        } catch {
            if error.errno == expected { return nil }
            let advice = error.errno == ELOOP ? "symbolic links are not followed" : "give a file in a folder that can be written to"
            throw KVMError(call: call, errno: error.errno, advice: advice)
        }
    }

    /// A file that others can read, or may have open from when they could, is not made safe by a change of its mode: that is the user's to decide.
    private static func checkOwner(_ descriptor: borrowing FileDescriptor, _ call: String) throws(KVMError) {
        let status = try status(descriptor, call)
        guard status.st_mode & S_IFMT == S_IFREG else { throw KVMError(call: call, errno: EINVAL, advice: "it is not a regular file") }
        guard status.st_uid == geteuid() else {
            throw KVMError(call: call, errno: EPERM, advice: "it belongs to user \(status.st_uid), not to you: give another name")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw KVMError(
                call: call, errno: EPERM,
                advice: "others may open it, and the guest's memory will be in it: remove it, or close it with chmod 600")
        }
    }

    /// A file that is not empty has to be a swap file of ours: its contents are lost.
    private static func checkContents(_ descriptor: borrowing FileDescriptor, _ call: String) throws(KVMError) {
        guard try status(descriptor, call).st_size > 0 else { return }
        var page = [UInt8](repeating: 0, count: Int(GuestMemory.pageSize))
        // SAFETY: the array lives for the call, which fills at most as many bytes as it has.
        let bytes = unsafe page.withUnsafeMutableBytes { unsafe pread(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
        guard bytes == page.count, SwapHeader.isOurs(page) else {
            throw KVMError(
                call: call, errno: EEXIST, advice: "it holds something else, which would be lost: give another name, or remove it")
        }
    }

    /// Whether a path leads to the file that is open.
    private static func isAt(_ path: String, _ descriptor: borrowing FileDescriptor) -> Bool {
        var (named, open) = (stat(), stat())
        // SAFETY: the string and the structures outlive the calls, which fill the structures.
        guard unsafe lstat(path, &named) == 0, unsafe fstat(descriptor.rawValue, &open) == 0 else { return false }
        return named.st_dev == open.st_dev && named.st_ino == open.st_ino
    }

    private static func status(_ descriptor: borrowing FileDescriptor, _ call: String) throws(KVMError) -> stat {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { throw KVMError(call: call, errno: errno) }
        return status
    }

    private static func resize(_ descriptor: borrowing FileDescriptor, _ byteCount: UInt64, _ call: String) throws(KVMError) {
        guard ftruncate(descriptor.rawValue, off_t(clamping: byteCount)) == 0 else { throw KVMError(call: call, errno: errno) }
    }

    private static func writeHeader(_ descriptor: borrowing FileDescriptor, _ byteCount: UInt64, _ call: String) throws(KVMError) {
        let header = SwapHeader.bytes(pageCount: byteCount / GuestMemory.pageSize)
        // SAFETY: the array lives for the call, which reads as many bytes as it has.
        let written = unsafe header.withUnsafeBytes { unsafe pwrite(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
        guard written == header.count else { throw KVMError(call: call, errno: written < 0 ? errno : ENOSPC) }
    }

    // MARK: Use

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
}
