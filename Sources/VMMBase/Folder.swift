// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage

/// The open folder of a file. Later calls create, open and rename in the same folder, even if its path changes.
package struct Folder: ~Copyable, Sendable {
    /// The folder, opened with O_PATH: for *at(2) calls.
    package let descriptor: OwnedFileDescriptor
    /// The file's name in the folder.
    package let name: String
    /// The file's path, for errors.
    private let path: String
    /// Only this user and root can create files or links there.
    package let isOurs: Bool

    /// Opens the folder that a file is in or will be in; `name` is the file's name there.
    package init(of path: String) throws(VMMError) {
        self.path = path
        name = path.fileName
        let opened = try OwnedFileDescriptor.folder(path.folderPath, of: path)
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(opened.rawValue, &status) == 0 else { throw VMMError.last("stat \(path)") }
        isOurs = (status.st_uid == geteuid() || status.st_uid == 0) && status.st_mode & 0o022 == 0
        descriptor = opened
    }

    /// Opens the file (openat(2)). With O_CREAT, creates it with mode 0600. Retries on EINTR.
    package func open(_ flags: Int32) throws(VMMError) -> OwnedFileDescriptor {
        while true {
            // SAFETY: the string lives for the call, which copies it.
            let number = unsafe openat(descriptor.rawValue, name, flags | O_CLOEXEC, 0o600)
            if number >= 0 { return OwnedFileDescriptor(owning: number) }
            if errno == ELOOP, flags & O_NOFOLLOW != 0 {
                throw VMMError.last("open \(path)", advice: "symbolic links are not followed in a folder that others may write to")
            }
            if errno != EINTR { throw VMMError.last("open \(path)") }
        }
    }

    /// Opens the file for append (`OwnedFileDescriptor.openForAppending`).
    package func openForAppending() throws(VMMError) -> OwnedFileDescriptor {
        do throws(VMMError) {
            // Read-write: opening a FIFO write-only fails without a reader (fifo(7)), and so would a write after the last reader closes it.
            return try openForAppending(O_RDWR)
        } catch {
            guard error.errno == .permissionDenied else { throw error }
            return try openForAppending(O_WRONLY)
        }
    }

    /// Opens a file (creating it with mode 0600) or a FIFO for append; never blocks.
    ///
    /// In a folder that others can write to, does not follow links and refuses files of other users: such a file would leak the guest's output, or
    /// redirect it into another file of ours.
    ///
    /// - Parameter access: O_WRONLY or O_RDWR.
    package func openForAppending(_ access: Int32) throws(VMMError) -> OwnedFileDescriptor {
        let flags = access | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | (isOurs ? 0 : O_NOFOLLOW)
        let file = try open(flags)
        guard !isOurs else { return file }
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(file.rawValue, &status) == 0 else { throw VMMError.last("stat \(path)") }
        guard status.st_uid == geteuid() else {
            throw VMMError(
                call: "open \(path)", errno: EPERM, advice: "it belongs to user \(status.st_uid), not to you: choose another name")
        }
        guard status.st_nlink == 1 || status.st_mode & S_IFMT != S_IFREG else {
            throw VMMError(call: "open \(path)", errno: EPERM, advice: "it has another hard link: choose another name")
        }
        return file
    }
}
