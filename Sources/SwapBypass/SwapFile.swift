// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import SymVMM
internal import SystemPackage
internal import VMMBase

/// The file of a swap store: created, or reused from an earlier VM; emptied, locked, and formatted as Linux swap. Any thread.
///
/// It contains the guest's memory, so only its owner may be able to read it: the VMM creates it with mode 0600, and an existing file must be a
/// regular file of the same user that other users cannot open. The VMM opens it once, so it uses the file that it has checked and locked. At the
/// end the VMM empties the file, and removes it if the VMM created it.
final class SwapFile: Sendable {
    /// For whole requests of the disk.
    let storage: FileStorage
    let descriptor: OwnedFileDescriptor
    private let path: String
    private let isCreatedHere: Bool
    private let isClosed = Atomic<Bool>(false)

    /// Opens or creates the file.
    ///
    /// - Throws: `VMMError` when the file has other contents, belongs to another user, is accessible to others, is in use, or cannot be created.
    init(path: String, byteCount: UInt64) throws(VMMError) {
        let call = "swap file \(path)"
        let opened = try SwapFile.open(path, call)
        do throws(VMMError) {
            try SwapFile.resize(opened.descriptor, 0, call)
            try SwapFile.resize(opened.descriptor, byteCount, call)
            try SwapFile.writeHeader(opened.descriptor, byteCount, call)
            storage = try FileStorage(locked: opened.descriptor.duplicate(), call, sectorSize: Int(GuestMemory.pageSize))
        } catch {
            SwapFile.discard(opened.descriptor, opened.isNew ? path : nil)
            throw error
        }
        self.path = path
        isCreatedHere = opened.isNew
        descriptor = opened.descriptor
    }

    deinit {
        close()
    }

    /// Empties the file, and removes it if this object created it. Later writes are lost. Only the first call has an effect.
    func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        FileThread.perform { SwapFile.discard(descriptor, isCreatedHere ? path : nil) }
    }

    private static func discard(_ descriptor: borrowing OwnedFileDescriptor, _ path: String?) {
        _ = ftruncate(descriptor.rawValue, 0)
        // SAFETY: the string outlives the call.
        if let path, isAt(path, descriptor) { _ = unsafe unlink(path) }
    }

    // MARK: Opening

    private struct Opened: ~Copyable {
        let descriptor: OwnedFileDescriptor
        let isNew: Bool
    }

    /// Opens and locks the file, or creates it. Changes no contents.
    private static func open(_ path: String, _ call: String) throws(VMMError) -> Opened {
        // Retries when another process creates or removes the file between two steps.
        for _ in 0..<100 {
            if let made = try open(path, O_CREAT | O_EXCL, unless: .fileExists, call) {
                // On an error, do not remove the file: another process has locked it and uses it.
                try FileStorage.lockAlone(made, call)
                return Opened(descriptor: made, isNew: true)
            }
            guard let found = try open(path, O_NOFOLLOW, unless: .noSuchFileOrDirectory, call) else { continue }
            try checkOwner(found, call)
            try FileStorage.lockAlone(found, call)
            // Its last user may have removed it before this process locked it.
            guard isAt(path, found) else { continue }
            try checkContents(found, call)
            return Opened(descriptor: found, isNew: false)
        }
        throw VMMError(call: call, errno: EBUSY, advice: "other processes create and remove it: give another name")
    }

    /// Opens the file; nil when open(2) fails with `expected`.
    private static func open(_ path: String, _ flags: Int32, unless expected: Errno, _ call: String) throws(VMMError)
        -> OwnedFileDescriptor?
    {
        do throws(VMMError) {
            return try OwnedFileDescriptor.open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | flags, mode: 0o600)
        } catch {
            if error.errno == expected { return nil }
            let isLink = error.errno == .tooManySymbolicLinkLevels
            let advice = isLink ? "symbolic links are not followed" : "give a file in a writable folder"
            throw VMMError(call: call, errno: error.errno, advice: advice)
        }
    }

    /// Refuses a file that other users can open. A change of its mode would not help, because another process may already have it open.
    private static func checkOwner(_ descriptor: borrowing OwnedFileDescriptor, _ call: String) throws(VMMError) {
        let status = try status(descriptor, call)
        guard status.st_mode & S_IFMT == S_IFREG else { throw VMMError(call: call, errno: EINVAL, advice: "it is not a regular file") }
        guard status.st_uid == geteuid() else {
            throw VMMError(call: call, errno: EPERM, advice: "it belongs to user \(status.st_uid), not to you: give another name")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw VMMError(
                call: call, errno: EPERM,
                advice: "other users can open it, and it will contain the guest's memory: remove it, or run chmod 600")
        }
    }

    /// A file that is not empty must be a swap file of symvmm, because its contents are lost.
    private static func checkContents(_ descriptor: borrowing OwnedFileDescriptor, _ call: String) throws(VMMError) {
        guard try status(descriptor, call).st_size > 0 else { return }
        var page = [UInt8](repeating: 0, count: Int(GuestMemory.pageSize))
        // SAFETY: the array outlives the call, which writes at most its length.
        let bytes = unsafe page.withUnsafeMutableBytes { unsafe pread(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
        guard bytes == page.count, SwapHeader.isOurs(page) else {
            throw VMMError(
                call: call, errno: EEXIST, advice: "it has other contents, which would be lost: give another name, or remove it")
        }
    }

    /// Whether a path names the open file.
    private static func isAt(_ path: String, _ descriptor: borrowing OwnedFileDescriptor) -> Bool {
        var (named, open) = (stat(), stat())
        // SAFETY: the string and the structures outlive the calls, which write to the structures.
        guard unsafe lstat(path, &named) == 0, unsafe fstat(descriptor.rawValue, &open) == 0 else { return false }
        return named.st_dev == open.st_dev && named.st_ino == open.st_ino
    }

    private static func status(_ descriptor: borrowing OwnedFileDescriptor, _ call: String) throws(VMMError) -> stat {
        var status = stat()
        // SAFETY: the structure outlives the call, which writes to it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { throw VMMError(call: call, errno: errno) }
        return status
    }

    private static func resize(_ descriptor: borrowing OwnedFileDescriptor, _ byteCount: UInt64, _ call: String) throws(VMMError) {
        guard ftruncate(descriptor.rawValue, off_t(clamping: byteCount)) == 0 else { throw VMMError(call: call, errno: errno) }
    }

    private static func writeHeader(_ descriptor: borrowing OwnedFileDescriptor, _ byteCount: UInt64, _ call: String) throws(VMMError) {
        let header = SwapHeader.bytes(pageCount: byteCount / GuestMemory.pageSize)
        // SAFETY: the array outlives the call, which reads its length.
        let written = unsafe header.withUnsafeBytes { unsafe pwrite(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
        guard written == header.count else { throw VMMError(call: call, errno: written < 0 ? errno : ENOSPC) }
    }

    // MARK: Reading and writing

    /// Bytes that the file occupies on its file system.
    var allocatedByteCount: UInt64 {
        var status = stat()
        // SAFETY: the structure outlives the call, which writes to it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { return 0 }
        return UInt64(max(0, status.st_blocks)) &* 512
    }

    /// Calls pread(2) until the buffer is full.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(StorageError) {
        try transfer(buffer.count) { done in
            // SAFETY: `done` is less than the buffer's length, and pread writes at most the rest.
            unsafe pread(descriptor.rawValue, buffer.baseAddress.map { unsafe $0 + done }, buffer.count - done, offset + done)
        }
    }

    /// Calls pwrite(2) until all bytes are written.
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
