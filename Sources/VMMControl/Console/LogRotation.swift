// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// Bounds a file that the guest fills. At the limit it renames the file to `NAME.1`, which replaces the previous `NAME.1`, and starts a new file.
/// So there are at most two files, each within the limit.
///
/// The descriptor number stays the same. Not thread-safe: only the writer's thread uses it.
final class LogRotation: @unchecked Sendable {
    private let folder: Folder
    /// Maximum length in bytes.
    private let limit: UInt64
    private let number: Int32
    private var byteCount: UInt64

    /// Returns nil for a FIFO or terminal, which has no length, and without a limit.
    ///
    /// - Parameters:
    ///   - file: the open file. Its owner must keep it open.
    ///   - folder: the folder that contains the file.
    ///   - limit: in bytes; 0 for no limit.
    init?(_ file: borrowing OwnedFileDescriptor, in folder: consuming Folder, limit: UInt64) {
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard limit > 0, unsafe fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        byteCount = UInt64(max(0, status.st_size))
        number = file.rawValue
        self.folder = folder
        self.limit = limit
    }

    /// How many of `count` bytes the caller may write now; 0 if the file is full and the rotation failed.
    func admit(_ count: Int) -> Int {
        if byteCount >= limit { FileThread.perform { begin() } }
        return Int(clamping: min(UInt64(count), limit > byteCount ? limit &- byteCount : 0))
    }

    /// Counts written bytes.
    func wrote(_ count: Int) {
        byteCount &+= UInt64(count)
    }

    /// Renames the file and opens a new one. Does nothing if the name now belongs to another file.
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
            OwnedFileDescriptor.replace(number, with: file)
        else { return }
        byteCount = 0
    }
}
