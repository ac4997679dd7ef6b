// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// Keeps a file that a guest fills from filling the disk: at its limit it becomes `NAME.1`, in the place of the one before, and a new one is
/// begun. So there are at most two, each no longer than the limit.
///
/// The descriptor's number stays the same. Used on one thread: the writer's.
final class LogRotation: @unchecked Sendable {
    private let folder: Folder
    /// In bytes.
    private let limit: UInt64
    private let number: Int32
    private var byteCount: UInt64

    /// For an open file; nil for what has no length: a FIFO, a terminal.
    ///
    /// - Parameter limit: in bytes; 0 for none.
    init?(_ file: borrowing FileDescriptor, in folder: consuming Folder, limit: UInt64) {
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard limit > 0, unsafe fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        byteCount = UInt64(max(0, status.st_size))
        number = file.rawValue
        self.folder = folder
        self.limit = limit
    }

    /// How many of so many bytes may be written now; 0: the file is full, and no other can be begun.
    func admit(_ count: Int) -> Int {
        if byteCount >= limit { begin() }
        return Int(clamping: min(UInt64(count), limit > byteCount ? limit &- byteCount : 0))
    }

    /// So many have been written.
    func wrote(_ count: Int) {
        byteCount &+= UInt64(count)
    }

    /// Begins another file. What is under the name and is not the file that was written to stays: then there is no other.
    private func begin() {
        var (named, open) = (stat(), stat())
        let (place, name) = (folder.descriptor.rawValue, folder.name)
        // SAFETY: the string lives for the calls, which write only the variables.
        guard unsafe fstat(number, &open) == 0 else { return }
        if unsafe fstatat(place, name, &named, AT_SYMLINK_NOFOLLOW) == 0 {
            // SAFETY: the strings live for the call.
            guard named.st_dev == open.st_dev, named.st_ino == open.st_ino, unsafe renameat(place, name, place, name + ".1") == 0
            else { return }
        }
        guard let file = try? folder.open(O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOCTTY),
            FileDescriptor.replace(number, with: file)
        else { return }
        byteCount = 0
    }
}
