// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage
internal import VMMBase

/// An open folder whose contents only root and this user can change: it and all folders above it belong to one of them, and others may write to none.
///
/// What is in it is opened relative to its descriptor, without following links. So nobody can put something else there after the check.
struct TrustedFolder: ~Copyable {
    /// The folder's path, for errors.
    let path: String
    private let descriptor: OwnedFileDescriptor

    /// O_PATH of open(2), which the importer lacks: no read permission is needed, the descriptor serves openat(2) only.
    private static let searchOnly: Int32 = 0o1000_0000

    private init(_ path: String, _ descriptor: consuming OwnedFileDescriptor) {
        self.path = path
        self.descriptor = descriptor
    }

    /// Opens a folder. Links in the path are followed before anything is checked.
    ///
    /// - Returns: nil if it does not exist, or lies where this user may not look.
    static func open(_ path: String) throws(VMMError) -> TrustedFolder? {
        // SAFETY: the strings live for the calls, and the result is freed after it is copied.
        guard let resolved = unsafe realpath(path, nil) else {
            guard [ENOENT, ENOTDIR, EACCES].contains(errno) else { throw VMMError.last("open \(path)") }
            return nil
        }
        let real = unsafe String(cString: resolved)
        unsafe free(resolved)
        var folder = TrustedFolder("/", try OwnedFileDescriptor.open("/", searchOnly | O_DIRECTORY))
        let names = real.split(separator: "/")
        try folder.check(isLast: names.isEmpty)
        for (index, name) in names.enumerated() {
            guard let next = try folder.descend(String(name), isLast: index == names.count - 1) else { return nil }
            folder = next
        }
        return folder
    }

    /// Opens a folder in this one; nil if there is none.
    func folder(_ name: String) throws(VMMError) -> TrustedFolder? {
        try descend(name, isLast: true)
    }

    private func descend(_ name: String, isLast: Bool) throws(VMMError) -> TrustedFolder? {
        let inner = path == "/" ? "/\(name)" : "\(path)/\(name)"
        guard let number = try open(name, TrustedFolder.searchOnly | O_DIRECTORY, inner) else { return nil }
        let folder = TrustedFolder(inner, OwnedFileDescriptor(owning: number))
        try folder.check(isLast: isLast)
        return folder
    }

    /// Opens what is in the folder; nil if there is nothing of this name.
    private func open(_ name: String, _ flags: Int32, _ inner: String) throws(VMMError) -> Int32? {
        while true {
            // SAFETY: the string lives for the call.
            let number = unsafe openat(descriptor.rawValue, name, flags | O_NOFOLLOW | O_CLOEXEC)
            if number >= 0 { return number }
            if errno == ENOENT { return nil }
            if errno == EINTR { continue }
            guard errno == ELOOP || errno == ENOTDIR else { throw VMMError.last("open \(inner)") }
            throw VMMError(call: "open \(inner)", errno: errno, advice: "links are not followed in the store of modules")
        }
    }

    /// - Parameter isLast: others may create their own names in a folder above, as in /tmp, if they cannot replace those of this user (chmod(2),
    ///   S_ISVTX).
    private func check(isLast: Bool) throws(VMMError) {
        let status = try TrustedFolder.status(descriptor.rawValue, path)
        if !isLast, status.st_mode & S_ISVTX != 0, TrustedFolder.isOurs(status) { return }
        try TrustedFolder.check(status, path)
    }

    private static func status(_ number: Int32, _ path: String) throws(VMMError) -> stat {
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(number, &status) == 0 else { throw VMMError.last("stat \(path)") }
        return status
    }

    private static func isOurs(_ status: stat) -> Bool {
        status.st_uid == 0 || status.st_uid == geteuid()
    }

    private static func check(_ status: stat, _ path: String) throws(VMMError) {
        guard isOurs(status) else {
            throw .host("\(path): belongs to user \(status.st_uid): modules are taken from root and from you only")
        }
        guard status.st_mode & 0o022 == 0 else {
            throw .host("\(path): others may write there, so no module is taken from it: run chmod go-w \(path)")
        }
    }

    /// Reads a regular file; nil if there is none of this name. Others must not be able to change it.
    func read(_ name: String, atMost limit: Int) throws(VMMError) -> (bytes: [UInt8], seconds: Int)? {
        let inner = "\(path)/\(name)"
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        guard let number = try open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY, inner) else { return nil }
        let file = OwnedFileDescriptor(owning: number)
        let status = try TrustedFolder.status(number, inner)
        guard status.st_mode & S_IFMT == S_IFREG else { throw .host("\(inner): not a regular file") }
        try TrustedFolder.check(status, inner)
        guard status.st_size <= limit else {
            throw VMMError(call: "read \(inner)", errno: EFBIG, advice: "at most \(limit) bytes are read")
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var done = 0
        while done < bytes.count {
            let count = unsafe bytes.withUnsafeMutableBytes { buffer in
                guard let base = buffer.baseAddress else { return 0 }
                // SAFETY: the buffer has `buffer.count` bytes, and `done` is below that.
                return unsafe Glibc.read(file.rawValue, base + done, buffer.count - done)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw VMMError.last("read \(inner)") }
            guard count > 0 else { break }
            done += count
        }
        return (Array(bytes.prefix(done)), status.st_mtim.tv_sec)
    }

    /// The names in the folder, sorted, without those that begin with a stop.
    func names() throws(VMMError) -> [String] {
        // The descriptor of the folder can only be passed on (O_PATH); this one reads.
        guard let number = try open(".", O_RDONLY | O_DIRECTORY, path) else { return [] }
        // SAFETY: the stream owns the descriptor and is closed below; an entry is read before the next call changes it.
        guard let stream = unsafe fdopendir(number) else {
            close(number)
            throw VMMError.last("read \(path)")
        }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            // SAFETY: the kernel ends d_name with a zero byte within the entry.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }

    /// Creates a folder that only this user can write to, unless there is one, and opens it.
    func makeFolder(_ name: String) throws(VMMError) -> TrustedFolder {
        // SAFETY: the string lives for the call.
        if unsafe mkdirat(descriptor.rawValue, name, 0o755) != 0, errno != EEXIST { throw VMMError.last("mkdir \(path)/\(name)") }
        guard let folder = try folder(name) else { throw VMMError(call: "open \(path)/\(name)", errno: ENOENT) }
        return folder
    }

    /// Creates or replaces a file atomically, with mode 0644.
    func write(_ name: String, _ bytes: [UInt8]) throws(VMMError) {
        let temporary = ".\(name).\(getpid())"
        // SAFETY: the strings live for the calls here and below.
        _ = unsafe unlinkat(descriptor.rawValue, temporary, 0)
        let number = unsafe openat(descriptor.rawValue, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard number >= 0 else { throw VMMError.last("write \(path)/\(name)") }
        let file = OwnedFileDescriptor(owning: number)
        do throws(VMMError) {
            // Whatever the umask is.
            guard fchmod(file.rawValue, 0o644) == 0 else { throw VMMError.last("write \(path)/\(name)") }
            try TrustedFolder.writeAll(file.rawValue, bytes, "\(path)/\(name)")
            guard fsync(file.rawValue) == 0, unsafe renameat(descriptor.rawValue, temporary, descriptor.rawValue, name) == 0 else {
                throw VMMError.last("write \(path)/\(name)")
            }
        } catch {
            _ = unsafe unlinkat(descriptor.rawValue, temporary, 0)
            throw error
        }
    }

    private static func writeAll(_ number: Int32, _ bytes: [UInt8], _ path: String) throws(VMMError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the slice's, which lives for the call.
                unsafe Glibc.write(number, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw VMMError.last("write \(path)") }
            rest = rest.dropFirst(count)
        }
    }
}
