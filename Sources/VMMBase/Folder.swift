// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The folder of a file, so that what is made, opened and renamed in it later is in the same one, whatever becomes of its name.
package struct Folder: ~Copyable, Sendable {
    package let descriptor: FileDescriptor
    /// The file's name in it.
    package let name: String
    /// The file's path, for errors.
    private let path: String
    /// Nobody but us and root can put a link or a file of his there.
    package let isOurs: Bool

    /// Opens the folder that a file is in, or is to be in; `name` is the file's name there.
    package init(of path: String) throws(KVMError) {
        self.path = path
        let slash = path.lastIndex(of: "/")
        name = slash.map { String(path[path.index(after: $0)...]) } ?? path
        let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let opened = try FileDescriptor.folder(folder, of: path)
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(opened.rawValue, &status) == 0 else { throw KVMError.last("stat \(path)") }
        isOurs = (status.st_uid == geteuid() || status.st_uid == 0) && status.st_mode & 0o022 == 0
        descriptor = opened
    }

    /// Opens the file (openat(2)), or makes it with mode 0600.
    package func open(_ flags: Int32) throws(KVMError) -> FileDescriptor {
        while true {
            // SAFETY: the string lives for the call, which copies it.
            let number = unsafe openat(descriptor.rawValue, name, flags | O_CLOEXEC, 0o600)
            if number >= 0 { return FileDescriptor(owning: number) }
            if errno == ELOOP, flags & O_NOFOLLOW != 0 {
                throw KVMError.last("open \(path)", advice: "symbolic links are not followed in a folder that others may write to")
            }
            if errno != EINTR { throw KVMError.last("open \(path)") }
        }
    }

    /// Opens what text is appended to (`FileDescriptor.openForAppending`).
    package func openForAppending() throws(KVMError) -> FileDescriptor {
        do throws(KVMError) {
            // To read as well: opened to write only, a FIFO without a reader is an error (fifo(7)), and a reader who leaves ends it.
            return try openForAppending(O_RDWR)
        } catch {
            guard error.errno == EACCES else { throw error }
            return try openForAppending(O_WRONLY)
        }
    }

    /// Opens what text is appended to: a file, made for its owner only when it is missing, or what else takes text. Never waits for a FIFO.
    ///
    /// Where others may put files, no link is followed and nothing of theirs is taken: it would tell them what the guest says, or send it into
    /// another file of ours.
    ///
    /// - Parameter access: O_WRONLY or O_RDWR.
    package func openForAppending(_ access: Int32) throws(KVMError) -> FileDescriptor {
        let flags = access | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | (isOurs ? 0 : O_NOFOLLOW)
        let file = try open(flags)
        guard !isOurs else { return file }
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(file.rawValue, &status) == 0 else { throw KVMError.last("stat \(path)") }
        guard status.st_uid == geteuid() else {
            throw KVMError(call: "open \(path)", errno: EPERM, advice: "it belongs to user \(status.st_uid), not to you: give another name")
        }
        guard status.st_nlink == 1 || status.st_mode & S_IFMT != S_IFREG else {
            throw KVMError(call: "open \(path)", errno: EPERM, advice: "it has another name elsewhere (a hard link): give another one")
        }
        return file
    }
}
