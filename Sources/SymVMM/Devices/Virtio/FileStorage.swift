// SPDX-License-Identifier: Apache-2.0

public import VMMBase

internal import CKVM
internal import Glibc
internal import Synchronization

/// A disk in a raw file or on a block device of the host, through the host's page cache.
///
/// The file is locked while the object lives (fcntl(2), open file description locks): one writer, or any number of readers. Where the file system
/// has no locks, `isLocked` says so.
public final class FileStorage: BlockStorage, @unchecked Sendable {
    /// False on a file system without locks: another VM may use the file, and neither would notice.
    public let isLocked: Bool
    private let descriptor: FileDescriptor
    /// What the file system has refused once it is not asked for again.
    private let cannotPunch = Atomic<Bool>(false)
    private let cannotZero = Atomic<Bool>(false)

    /// Opens and locks a file.
    ///
    /// - Parameters:
    ///   - sectorSize: 512 or 4096; nil takes a block device's own, and 512 for a file.
    /// - Throws: `KVMError` with advice: no such file, not permitted, a directory or another thing that is no disk, empty, not whole sectors,
    ///   in use by another process.
    public convenience init(path: String, isReadOnly: Bool, sectorSize: Int? = nil) throws(KVMError) {
        let call = "disk \(path)"
        // Before the open, which would wait on a FIFO or rewind a tape.
        try FileStorage.checkKind(path, call)
        let descriptor: FileDescriptor
        do throws(KVMError) {
            // O_NONBLOCK has no effect on a disk. Whatever has been put there since it was looked at must not keep us; it is looked at again.
            descriptor = try FileDescriptor.open(path, (isReadOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY)
        } catch {
            throw KVMError(call: call, errno: error.errno, advice: FileStorage.advice(error.errno, isReadOnly))
        }
        let isLocked = try FileStorage.lock(descriptor, call, isReadOnly)
        try self.init(descriptor, call, isReadOnly, sectorSize, isLocked)
    }

    /// What a path leads to now, in place of `other`: the same file measured again when it is the same, otherwise another one.
    ///
    /// The same file cannot be opened a second time: it is locked.
    public convenience init(path: String, replacing other: FileStorage) throws(KVMError) {
        if FileStorage.isSame(path, other.descriptor) {
            let call = "disk \(path)"
            let number = fcntl(other.descriptor.rawValue, F_DUPFD_CLOEXEC, 0)
            guard number >= 0 else { throw KVMError.last(call) }
            try self.init(FileDescriptor(owning: number), call, other.isReadOnly, other.sectorSize, other.isLocked)
        } else {
            try self.init(path: path, isReadOnly: other.isReadOnly, sectorSize: other.sectorSize)
        }
    }

    /// A file that is open for reading and writing, and locked (`lockAlone`).
    ///
    /// - Parameter call: names it in errors.
    public convenience init(locked descriptor: consuming FileDescriptor, _ call: String, sectorSize: Int) throws(KVMError) {
        try self.init(descriptor, call, false, sectorSize, true)
    }

    /// Takes over an open and locked file.
    private init(_ descriptor: consuming FileDescriptor, _ call: String, _ isReadOnly: Bool, _ sectorSize: Int?, _ isLocked: Bool)
        throws(KVMError)
    {
        let kind = try FileStorage.measure(descriptor, call)
        let sector = sectorSize ?? kind.sectorSize
        guard [512, 1024, 2048, 4096].contains(sector), sector >= kind.sectorSize else {
            throw KVMError(
                call: call, errno: EINVAL, advice: "its sectors are \(kind.sectorSize) bytes; \(sector) cannot be offered to the guest")
        }
        guard kind.byteCount > 0 else {
            throw KVMError(
                call: call, errno: EINVAL, advice: "it is empty: give it a size, for instance with 'truncate -s 1G \(call.dropFirst(5))'")
        }
        guard kind.byteCount % UInt64(sector) == 0 else {
            throw KVMError(
                call: call, errno: EINVAL,
                advice: "its size, \(kind.byteCount) bytes, is not a multiple of \(sector): is it a raw disk image?")
        }
        self.descriptor = descriptor
        self.isLocked = isLocked
        super.init(byteCount: kind.byteCount, sectorSize: sector, isReadOnly: isReadOnly)
    }

    /// preadv(2) until all is read. The end of the file, which was cut after it was opened, is an error.
    public override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        let number = descriptor.rawValue
        try unsafe FileStorage.transfer(&vectors, offset) { base, count, position in
            // SAFETY: the vectors describe guest memory, which outlives the request; preadv writes no more than they hold.
            unsafe preadv(number, base, count, position)
        }
    }

    /// pwritev(2) until all is written.
    public override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        let number = descriptor.rawValue
        try unsafe FileStorage.transfer(&vectors, offset) { base, count, position in
            // SAFETY: as in read; pwritev only reads them.
            unsafe pwritev(number, base, count, position)
        }
    }

    /// fdatasync(2).
    public override func flush() throws(StorageError) {
        try retry { fdatasync(descriptor.rawValue) < 0 ? -errno : 0 }
    }

    /// Punches a hole; where the file system cannot, nothing is done.
    public override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        _ = try attempt(unless: cannotPunch) { ckvm_punch_hole(descriptor.rawValue, Int64(clamping: offset), Int64(clamping: byteCount)) }
    }

    /// Punches a hole or zeroes the range, or where the file system can do neither, writes zeroes.
    public override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        let (start, length) = (Int64(clamping: offset), Int64(clamping: byteCount))
        if mayUnmap, try attempt(unless: cannotPunch, { ckvm_punch_hole(descriptor.rawValue, start, length) }) { return }
        if try attempt(unless: cannotZero, { ckvm_zero_range(descriptor.rawValue, start, length) }) { return }
        var (position, left) = (Int(clamping: offset), Int(clamping: byteCount))
        while left > 0 {
            let bytes = min(left, FileStorage.zeroes.count)
            // SAFETY: the array has at least `bytes` bytes.
            let written = unsafe pwrite(descriptor.rawValue, FileStorage.zeroes, bytes, position)
            if written < 0, errno == EINTR { continue }
            guard written > 0 else { throw .failed(errno: written < 0 ? errno : EIO) }
            position += written
            left -= written
        }
    }

    private static let zeroes = [UInt8](repeating: 0, count: 64 << 10)

    private static func transfer(
        _ vectors: inout GuestVectors, _ offset: UInt64, _ call: (UnsafePointer<iovec>, Int32, Int) -> Int
    ) throws(StorageError) {
        var position = Int(clamping: offset)
        while vectors.byteCount > 0 {
            let bytes = unsafe vectors.withVectors { base, count in unsafe call(base, count, position) }
            if bytes < 0, errno == EINTR { continue }
            guard bytes > 0 else { throw .failed(errno: bytes < 0 ? errno : EIO) }
            vectors.dropFirst(bytes)
            position += bytes
        }
    }

    /// Makes a call of the shim, again when a signal interrupts it.
    private func retry(_ call: () -> Int32) throws(StorageError) {
        while true {
            let result = call()
            if result >= 0 { return }
            if result != -EINTR { throw .failed(errno: -result) }
        }
    }

    /// Makes a call that not every file system has. False when this one does not.
    private func attempt(unless refused: borrowing Atomic<Bool>, _ call: () -> Int32) throws(StorageError) -> Bool {
        guard !refused.load(ordering: .relaxed) else { return false }
        do throws(StorageError) {
            try retry(call)
            return true
        } catch .failed(errno: EOPNOTSUPP), .failed(errno: ENOSYS) {
            refused.store(true, ordering: .relaxed)
            return false
        }
    }
}

extension FileStorage {
    private struct Kind {
        let byteCount: UInt64
        let sectorSize: Int
    }

    /// Refuses what is neither a regular file nor a block device. What cannot be looked at is left to open(2), which says why.
    private static func checkKind(_ path: String, _ call: String) throws(KVMError) {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe stat(path, &status) == 0 else { return }
        try checkKind(status, call)
    }

    private static func checkKind(_ status: stat, _ call: String) throws(KVMError) {
        switch status.st_mode & S_IFMT {
        case S_IFREG, S_IFBLK: return
        case S_IFDIR: throw KVMError(call: call, errno: EISDIR, advice: "give a raw disk image or a block device")
        default: throw KVMError(call: call, errno: EINVAL, advice: "neither a regular file nor a block device")
        }
    }

    /// Whether a path leads to the file that is open.
    private static func isSame(_ path: String, _ descriptor: borrowing FileDescriptor) -> Bool {
        var (named, open) = (stat(), stat())
        // SAFETY: the string and the structures outlive the calls, which fill the structures.
        guard unsafe stat(path, &named) == 0, unsafe fstat(descriptor.rawValue, &open) == 0 else { return false }
        return named.st_dev == open.st_dev && named.st_ino == open.st_ino
    }

    private static func measure(_ descriptor: borrowing FileDescriptor, _ call: String) throws(KVMError) -> Kind {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { throw KVMError.last(call) }
        try checkKind(status, call)
        guard status.st_mode & S_IFMT == S_IFBLK else { return Kind(byteCount: UInt64(max(0, status.st_size)), sectorSize: 512) }
        var bytes: UInt64 = 0
        var sector: UInt32 = 0
        // SAFETY: the variables outlive the calls, which fill them.
        _ = try KVMError.check(unsafe ckvm_block_device_size(descriptor.rawValue, &bytes), call)
        _ = try KVMError.check(unsafe ckvm_block_logical_sector_size(descriptor.rawValue, &sector), call)
        return Kind(byteCount: bytes, sectorSize: Int(sector))
    }

    /// False: the file system has no locks.
    private static func lock(_ descriptor: borrowing FileDescriptor, _ call: String, _ isReadOnly: Bool) throws(KVMError) -> Bool {
        switch -ckvm_lock_file(descriptor.rawValue, !isReadOnly) {
        case EAGAIN, EACCES:
            let advice = isReadOnly ? "another process writes to it" : "another process uses it: end it, or give both the disk read-only"
            throw KVMError(call: call, errno: EBUSY, advice: advice)
        case ...0: return true
        // The user has to see to it, and is told.
        case ENOLCK, EOPNOTSUPP, ENOSYS: return false
        case let error: throw KVMError(call: call, errno: error, advice: "the file could not be locked")
        }
    }

    /// Locks a file that is open for writing, so that nobody else reads or writes it as a disk. The lock is the open file's, and so that of each
    /// duplicate of the descriptor.
    ///
    /// - Throws: `KVMError`: another process has it, or the file system has no locks.
    public static func lockAlone(_ descriptor: borrowing FileDescriptor, _ call: String) throws(KVMError) {
        switch -ckvm_lock_file(descriptor.rawValue, true) {
        case ...0: return
        case EAGAIN, EACCES: throw KVMError(call: call, errno: EBUSY, advice: "another process uses it: give another name")
        case let error: throw KVMError(call: call, errno: error, advice: "it can't be locked there: give a file on another file system")
        }
    }

    private static func advice(_ errno: Int32, _ isReadOnly: Bool) -> String {
        switch errno {
        case ENOENT: "make the file first, for instance with truncate or scripts/guest-image"
        case EACCES where !isReadOnly, EPERM where !isReadOnly, EROFS:
            "not permitted to write to it: add ',readonly' to the disk, or change its permissions"
        default: ""
        }
    }
}
