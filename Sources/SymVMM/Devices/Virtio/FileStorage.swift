// SPDX-License-Identifier: Apache-2.0

public import VMMBase

internal import CKVM
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// A disk in a raw file or on a block device of the host, through the host's page cache.
///
/// The file is locked while the object lives (fcntl(2), open file description locks): one writer, or any number of readers. If the file
/// system has no locks, `isLocked` is false.
public final class FileStorage: BlockStorage, @unchecked Sendable {
    /// False on a file system without locks: two VMs could use the file at the same time without an error.
    public let isLocked: Bool
    /// The disk is a block device that something on the host uses: it is mounted, or part of a RAID or of LVM.
    public let isUsedByHost: Bool
    /// How a replacement of the file is opened: `init(path:isReadOnly:sectorSize:isRaw:allowsAnySize:)`.
    private let isRaw: Bool
    private let allowsAnySize: Bool
    private let descriptor: OwnedFileDescriptor
    /// The file system does not support the operation. It is not tried again.
    private let cannotPunch = Atomic<Bool>(false)
    private let cannotZero = Atomic<Bool>(false)

    /// Opens and locks a file.
    ///
    /// - Parameters:
    ///   - path: a regular file or a block device.
    ///   - isReadOnly: opens the file for reading only.
    ///   - sectorSize: 512 or 4096; nil: a block device's logical sector size, and 512 for a file.
    ///   - isRaw: takes the file as raw even if it has another format's header.
    ///   - allowsAnySize: an empty file is an empty disk, and a part of a sector at the end is left out. Otherwise both are errors.
    /// - Throws: `VMMError` with advice: no such file, not permitted, neither a file nor a block device, empty, not whole sectors,
    ///   in use by another process, an image in another format.
    public convenience init(path: String, isReadOnly: Bool, sectorSize: Int? = nil, isRaw: Bool = false, allowsAnySize: Bool = false)
        throws(VMMError)
    {
        let call = "disk \(path)"
        // Before open(2), which would block on a FIFO or rewind a tape.
        try FileStorage.checkKind(path, call)
        let descriptor: OwnedFileDescriptor
        do throws(VMMError) {
            // O_NONBLOCK has no effect on a disk. The path may have changed since the check, so open(2) must not block; the kind is
            // checked again below.
            descriptor = try OwnedFileDescriptor.open(path, (isReadOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY)
        } catch {
            throw VMMError(call: call, errno: error.errno, advice: FileStorage.advice(error.errno, isReadOnly))
        }
        let isLocked = try FileStorage.lock(descriptor, call, isReadOnly)
        if !isRaw, let format = DiskImageHeader.format(of: descriptor, byteCount: try FileStorage.measure(descriptor, call).byteCount) {
            throw VMMError(
                .user, "\(call): a \(format) image, and symvmm reads raw images only",
                advice: "convert it with 'qemu-img convert -O raw', or add format=raw to the drive if its bytes are the disk's contents")
        }
        // O_EXCL without O_CREAT: fails if the host itself uses the block device (open(2)). The probe closes it again.
        let isUsedByHost = FileStorage.isBlockDevice(descriptor) && FileStorage.isClaimed(path)
        try self.init(
            descriptor, call, isReadOnly, sectorSize, isLocked, isRaw: isRaw, allowsAnySize: allowsAnySize, isUsedByHost: isUsedByHost)
    }

    /// Opens the file at a path as a replacement for `other`. If it is the same file, reads its size again.
    ///
    /// The same file cannot be opened a second time, because it is locked.
    package convenience init(path: String, replacing other: FileStorage) throws(VMMError) {
        if FileStorage.isSame(path, other.descriptor) {
            let call = "disk \(path)"
            let number = fcntl(other.descriptor.rawValue, F_DUPFD_CLOEXEC, 0)
            guard number >= 0 else { throw VMMError.last(call) }
            try self.init(
                OwnedFileDescriptor(owning: number), call, other.isReadOnly, other.sectorSize, other.isLocked, isRaw: other.isRaw,
                allowsAnySize: other.allowsAnySize, isUsedByHost: other.isUsedByHost)
        } else {
            try self.init(
                path: path, isReadOnly: other.isReadOnly, sectorSize: other.sectorSize, isRaw: other.isRaw,
                allowsAnySize: other.allowsAnySize)
        }
    }

    /// Uses a file that is open for reading and writing, and locked (`lockAlone`).
    ///
    /// - Parameters:
    ///   - descriptor: the file.
    ///   - call: names it in errors.
    ///   - sectorSize: 512 or 4096.
    package convenience init(locked descriptor: consuming OwnedFileDescriptor, _ call: String, sectorSize: Int) throws(VMMError) {
        try self.init(descriptor, call, false, sectorSize, true, isRaw: true, allowsAnySize: false, isUsedByHost: false)
    }

    /// Takes ownership of an open and locked file.
    private init(
        _ descriptor: consuming OwnedFileDescriptor, _ call: String, _ isReadOnly: Bool, _ sectorSize: Int?, _ isLocked: Bool, isRaw: Bool,
        allowsAnySize: Bool, isUsedByHost: Bool
    ) throws(VMMError) {
        let kind = try FileStorage.measure(descriptor, call)
        let sector = sectorSize ?? kind.sectorSize
        guard [512, 1024, 2048, 4096].contains(sector), sector >= kind.sectorSize else {
            throw VMMError(
                call: call, errno: EINVAL, advice: "its sectors are \(kind.sectorSize) bytes; \(sector) cannot be offered to the guest")
        }
        guard kind.byteCount > 0 || allowsAnySize else {
            throw VMMError(
                call: call, errno: EINVAL, advice: "it is empty: give it a size, for instance with 'truncate -s 1G \(call.dropFirst(5))'")
        }
        guard kind.byteCount % UInt64(sector) == 0 || allowsAnySize else {
            throw VMMError(
                call: call, errno: EINVAL,
                advice: "its size, \(counted(kind.byteCount, "byte")), is not a multiple of \(sector): is it a raw disk image?")
        }
        self.descriptor = descriptor
        self.isLocked = isLocked
        self.isRaw = isRaw
        self.allowsAnySize = allowsAnySize
        self.isUsedByHost = isUsedByHost
        super.init(byteCount: kind.byteCount - kind.byteCount % UInt64(sector), sectorSize: sector, isReadOnly: isReadOnly)
    }

    /// Calls preadv(2) until all vectors are full. If the file has been truncated since it was opened, that is an error.
    public override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        let number = descriptor.rawValue
        try unsafe FileStorage.transfer(&vectors, offset) { base, count, position in
            // SAFETY: the vectors describe guest memory, which outlives the request; preadv writes no more than they hold.
            unsafe preadv(number, base, count, position)
        }
    }

    /// Calls pwritev(2) until all bytes are written.
    public override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        let number = descriptor.rawValue
        try unsafe FileStorage.transfer(&vectors, offset) { base, count, position in
            // SAFETY: the vectors describe guest memory, which outlives the request; pwritev only reads it.
            unsafe pwritev(number, base, count, position)
        }
    }

    /// Calls fdatasync(2).
    public override func flush() throws(StorageError) {
        try retry { fdatasync(descriptor.rawValue) < 0 ? -errno : 0 }
    }

    /// Punches a hole. Does nothing if the file system does not support it.
    public override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        _ = try attempt(unless: cannotPunch) { ckvm_punch_hole(descriptor.rawValue, Int64(clamping: offset), Int64(clamping: byteCount)) }
    }

    /// Punches a hole or zeroes the range. If the file system supports neither, writes zeroes.
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

    /// Calls a function of the shim. Retries on EINTR.
    private func retry(_ call: () -> Int32) throws(StorageError) {
        while true {
            let result = call()
            if result >= 0 { return }
            if result != -EINTR { throw .failed(errno: -result) }
        }
    }

    /// Calls an operation that not every file system supports. Returns false if this one does not.
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

    /// Throws if the path is neither a regular file nor a block device. If stat(2) fails, open(2) reports the error later.
    private static func checkKind(_ path: String, _ call: String) throws(VMMError) {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe stat(path, &status) == 0 else { return }
        try checkKind(status, call)
    }

    private static func checkKind(_ status: stat, _ call: String) throws(VMMError) {
        switch status.st_mode & S_IFMT {
        case S_IFREG, S_IFBLK: return
        case S_IFDIR: throw VMMError(call: call, errno: EISDIR, advice: "give a raw disk image or a block device")
        default: throw VMMError(call: call, errno: EINVAL, advice: "neither a regular file nor a block device")
        }
    }

    /// Whether a path refers to the open file.
    private static func isSame(_ path: String, _ descriptor: borrowing OwnedFileDescriptor) -> Bool {
        var (named, open) = (stat(), stat())
        // SAFETY: the string and the structures outlive the calls, which fill the structures.
        guard unsafe stat(path, &named) == 0, unsafe fstat(descriptor.rawValue, &open) == 0 else { return false }
        return named.st_dev == open.st_dev && named.st_ino == open.st_ino
    }

    private static func isBlockDevice(_ descriptor: borrowing OwnedFileDescriptor) -> Bool {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        return unsafe fstat(descriptor.rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFBLK
    }

    private static func isClaimed(_ path: String) -> Bool {
        do throws(VMMError) {
            _ = try OwnedFileDescriptor.open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_NOCTTY)
            return false
        } catch {
            return error.errno == .resourceBusy
        }
    }

    /// Whether the path refers to this file.
    func isFile(at path: String) -> Bool {
        FileStorage.isSame(path, descriptor)
    }

    private static func measure(_ descriptor: borrowing OwnedFileDescriptor, _ call: String) throws(VMMError) -> Kind {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { throw VMMError.last(call) }
        try checkKind(status, call)
        guard status.st_mode & S_IFMT == S_IFBLK else { return Kind(byteCount: UInt64(max(0, status.st_size)), sectorSize: 512) }
        var bytes: UInt64 = 0
        var sector: UInt32 = 0
        // SAFETY: the variables outlive the calls, which fill them.
        _ = try VMMError.check(unsafe ckvm_block_device_size(descriptor.rawValue, &bytes), call)
        _ = try VMMError.check(unsafe ckvm_block_logical_sector_size(descriptor.rawValue, &sector), call)
        return Kind(byteCount: bytes, sectorSize: Int(sector))
    }

    /// Locks the file. Returns false if the file system has no locks.
    private static func lock(_ descriptor: borrowing OwnedFileDescriptor, _ call: String, _ isReadOnly: Bool) throws(VMMError) -> Bool {
        switch -ckvm_lock_file(descriptor.rawValue, !isReadOnly) {
        case EAGAIN, EACCES:
            let advice = isReadOnly ? "another process writes to it" : "another process uses it: end it, or use the disk read-only in both"
            throw VMMError(call: call, errno: EBUSY, advice: advice)
        case ...0: return true
        // The VM warns the user.
        case ENOLCK, EOPNOTSUPP, ENOSYS: return false
        case let error: throw VMMError(call: call, errno: error, advice: "the file could not be locked")
        }
    }

    /// Locks a file that is open for writing, so that no other process uses it as a disk. The lock belongs to the open file description, so
    /// duplicates of the descriptor share it.
    ///
    /// - Throws: `VMMError` if another process has a lock, or the file system has no locks.
    package static func lockAlone(_ descriptor: borrowing OwnedFileDescriptor, _ call: String) throws(VMMError) {
        switch -ckvm_lock_file(descriptor.rawValue, true) {
        case ...0: return
        case EAGAIN, EACCES: throw VMMError(call: call, errno: EBUSY, advice: "another process uses it: give another name")
        case let error: throw VMMError(call: call, errno: error, advice: "cannot be locked there: give a file on another file system")
        }
    }

    private static func advice(_ errno: Errno?, _ isReadOnly: Bool) -> String {
        switch errno {
        case Errno.noSuchFileOrDirectory: "make the file first, for instance with truncate or scripts/guest-image"
        case Errno.permissionDenied where !isReadOnly, Errno.notPermitted where !isReadOnly, Errno.readOnlyFileSystem:
            "not permitted to write to it: add ',readonly' to the disk, or change its permissions"
        default: ""
        }
    }
}
