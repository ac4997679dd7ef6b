// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import Synchronization

/// A listening Unix socket and its file. `init` creates the file with mode 0600; `remove()` or deinit removes it. Thread-safe.
///
/// With a custom path, the runtime folder gets a symbolic link with the VM's name, so that commands still find the VM by name.
package final class ControlSocket: ListeningSocket {
    /// Maximum length of a socket path (unix(7), without the final zero byte).
    package static let longestPath = 107
    /// Length of the accept queue; the kernel may limit it further (net.core.somaxconn). When the queue is full, further clients block in
    /// connect(2), or get EAGAIN.
    package static let backlog: Int32 = 1024

    /// Path of the socket.
    package let path: String
    private let link: String?
    private let identity: FileIdentity
    private let number: Atomic<Int32>
    private let isRemoved = Atomic<Bool>(false)

    /// Binds and listens. Replaces the socket of a dead process; throws if a process listens there.
    ///
    /// - Parameters:
    ///   - path: the socket's path; nil for the default path by name.
    ///   - name: the VM's name.
    ///   - folder: the folder of the default path, or of the link to a custom path.
    ///   - needsName: false if a socket at a custom path may do without the name, when a running VM has it.
    package init(path chosen: String? = nil, name: String, folder: RuntimeFolder, needsName: Bool = true) throws(VMMError) {
        guard chosen != "" else { throw .user("--api-socket: empty") }
        let named = folder.socketPath(of: name)
        let path = chosen ?? named
        let absolutePath = try ControlSocket.absolute(path)
        let folderLock = try FolderLock(folder.path)
        defer { folderLock.release() }
        let isNamed: Bool
        do throws(VMMError) {
            try ControlSocket.makeRoom(at: named, for: "a VM named '\(name)' is running: choose another --name")
            isNamed = true
        } catch {
            guard !needsName, chosen != nil else { throw error }
            isNamed = false
        }
        var pathLock: FolderLock?
        if let chosen {
            let parent = chosen.folderPath
            // A second lock on the same folder would wait for the first. In a folder that others can read or write, other users could hold the lock
            // forever: there we rely on the lock on our own runtime folder, which all our VMs take.
            if try !FolderLock.isSame(parent, folder.path), !FolderLock.isShared(parent) { pathLock = try FolderLock(parent) }
            try ControlSocket.makeRoom(at: chosen, for: "a running VM uses it: choose another --api-socket")
        }
        defer { pathLock?.release() }
        let socket = try ControlSocket.listen(at: path)
        self.path = path
        identity = FileIdentity(path)
        // SAFETY: both strings live for the call.
        if isNamed, path != named, unsafe symlink(absolutePath, named) == 0 {
            link = named
        } else {
            link = nil
        }
        number = Atomic(socket)
    }

    /// Binds and listens at a path. The VM gets its name in the runtime folder only if there is such a folder and no running VM has the name.
    package convenience init(path: String, nameIfFree name: String) throws(VMMError) {
        if let folder = try? RuntimeFolder() {
            try self.init(path: path, name: name, folder: folder, needsName: false)
        } else {
            try self.init(unnamed: path)
        }
    }

    /// Binds and listens at a path, without a name.
    ///
    /// - Parameters:
    ///   - option: the option that gave the path, for errors.
    ///   - user: who may listen there already, for errors.
    init(unnamed path: String, option: String = "--api-sock", user: String = "a running VM") throws(VMMError) {
        guard path != "" else { throw .user("\(option): empty") }
        try ControlSocket.makeRoom(at: path, for: "\(user) uses it: choose another \(option)")
        let socket = try ControlSocket.listen(at: path)
        self.path = path
        identity = FileIdentity(path)
        link = nil
        number = Atomic(socket)
    }

    /// The socket's path.
    package var place: String { path }

    /// Transfers the listening socket to the server, which closes it. Later calls return -1.
    package func takeDescriptor() -> Int32 {
        number.exchange(-1, ordering: .acquiringAndReleasing)
    }

    /// Removes the files, unless another VM has replaced them. Closes the socket if no server took it. Idempotent.
    package func remove() {
        let descriptor = takeDescriptor()
        if descriptor >= 0 { close(descriptor) }
        // After the first call another VM may use the names.
        guard !isRemoved.exchange(true, ordering: .acquiringAndReleasing) else { return }
        FileThread.perform {
            // SAFETY: the strings live for the calls.
            if identity.isKnown, FileIdentity(path) == identity { _ = unsafe unlink(path) }
            if let link, ControlSocket.target(of: link) != nil { _ = unsafe unlink(link) }
        }
    }

    /// The folders of the files that `remove()` removes.
    package var folders: [String] {
        [path.folderPath] + (link.map { [$0.folderPath] } ?? [])
    }

    deinit {
        remove()
    }

    /// The socket file that a path in the runtime folder leads to: the path itself, or what a link there names.
    package static func place(_ path: String) -> String {
        target(of: path) ?? path
    }

    /// Whether a process listens at the path.
    package static func isAlive(_ path: String) -> Bool {
        let descriptor = connect(to: path)
        guard descriptor >= 0 else { return false }
        close(descriptor)
        return true
    }

    /// Whether a process left its socket, or a link to it, at the path: a signal killed the process, since one that ends removes both. Waits 0.2 s for
    /// a process that is about to do so.
    package static func isLeftBehind(_ path: String) -> Bool {
        guard isRefused(path) else { return false }
        usleep(200_000)
        return isRefused(path)
    }

    /// Whether a socket is at the path at which no process listens. False for one that this user may not use.
    private static func isRefused(_ path: String) -> Bool {
        guard isSocketOrLink(path) else { return false }
        let descriptor = connect(to: path)
        if descriptor >= 0 { close(descriptor) }
        return descriptor == -ECONNREFUSED
    }

    /// The process that listens at the path; nil if there is none, or if it is in another PID namespace.
    package static func listener(at path: String) -> RunningProcess? {
        let descriptor = connect(to: path)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return RunningProcess(behind: descriptor)
    }

    /// Removes a socket file, or a symbolic link and the socket file that it names, if no process listens there. Removes no other kind of file.
    package static func removeIfStale(_ path: String) {
        if let target = target(of: path), target.hasPrefix("/") { removeAlone(target) }
        removeAlone(path)
    }

    private static func removeAlone(_ path: String) {
        guard let lock = try? FolderLock(path.folderPath) else { return }
        defer { lock.release() }
        // SAFETY: the string lives for the call.
        if !isAlive(path), isSocketOrLink(path) { _ = unsafe unlink(path) }
    }

    /// Makes a path free for a socket: removes the socket of a dead process. Throws an error with the text `living` if a process listens there.
    private static func makeRoom(at path: String, for living: String) throws(VMMError) {
        guard path.utf8.count <= longestPath else {
            throw .user("\(path): a socket path has at most \(longestPath) bytes, this one has \(path.utf8.count)")
        }
        guard FileIdentity(path).isKnown || target(of: path) != nil else { return }
        guard isSocketOrLink(path) else { throw .user("\(path): exists and is not a socket") }
        if isAlive(path) { throw .user("\(path): \(living)") }
        // SAFETY: the string lives for the call.
        guard unsafe unlink(path) == 0 else { throw VMMError.last("remove \(path)") }
    }

    /// Listens under a temporary name, then links the socket to its final name, so that every client that sees the file can connect.
    private static func listen(at path: String) throws(VMMError) -> Int32 {
        let temporary = try temporaryPath(for: path)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw VMMError.last("socket") }
        // Linux gives the socket file the socket's mode, so it is never open to others, with any umask (unix_bind).
        let isBound = unsafe fchmod(descriptor, 0o600) == 0 && withAddress(temporary) { unsafe bind(descriptor, $0, $1) } == 0
        // SAFETY: both strings live for the call. link(2), unlike rename(2), does not replace a file that another process created meanwhile.
        let isOpen = unsafe isBound && Glibc.listen(descriptor, backlog) == 0 && Glibc.link(temporary, path) == 0
        let error = VMMError.last("bind \(path)")
        // SAFETY: the string lives for the call.
        if isBound { _ = unsafe unlink(temporary) }
        guard isOpen else {
            close(descriptor)
            throw .host("\(error)")
        }
        return descriptor
    }

    /// A free name beside the path that fits a socket address. Tries a fixed name first, so that it replaces the leftover of a killed process, then
    /// random names.
    private static func temporaryPath(for path: String) throws(VMMError) -> String {
        let name = path.split(separator: "/", omittingEmptySubsequences: false).last?.utf8.count ?? 0
        for attempt in 0..<16 {
            let ending = attempt == 0 ? "~" : "~" + String(UInt16.random(in: 0x1000 ... .max), radix: 16)
            let surplus = max(0, path.utf8.count + ending.utf8.count - longestPath)
            // Shortens the file's name, not the folder's.
            guard surplus <= name else { break }
            let temporary = path.dropLast(surplus) + ending
            guard (try? makeRoom(at: String(temporary), for: "in use")) != nil else { continue }
            return String(temporary)
        }
        throw .host("\(path): no temporary name beside it is free: choose another folder")
    }

    /// Connects without blocking: a Unix socket connects or fails at once, unless the listener's queue is full.
    ///
    /// - Returns: the descriptor, or -errno.
    private static func connect(to path: String) -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return -errno }
        // EAGAIN: the queue is full, so a process listens.
        // SAFETY: the address lives for the call, which gets its size.
        if unsafe withAddress(path, { unsafe Glibc.connect(descriptor, $0, $1) }) == 0 || errno == EAGAIN { return descriptor }
        let error = errno
        close(descriptor)
        return -error
    }

    private static func withAddress(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        guard path.utf8.count <= longestPath else {
            errno = ENAMETOOLONG
            return -1
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { field in
            // SAFETY: the length is checked above; the last byte of the field stays zero.
            unsafe field.copyBytes(from: Array(path.utf8))
        }
        return unsafe withUnsafePointer(to: &address) { pointer in
            // SAFETY: every socket address begins as a sockaddr, and the call gets its true size.
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
    }

    private static func isSocketOrLink(_ path: String) -> Bool {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        guard unsafe lstat(path, &status) == 0 else { return false }
        return status.st_mode & S_IFMT == S_IFSOCK || status.st_mode & S_IFMT == S_IFLNK
    }

    private static func target(of link: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe buffer.withUnsafeMutableBytes { room -> Int in
            guard let start = room.baseAddress else { return -1 }
            // SAFETY: the buffer has `room.count` bytes.
            return unsafe readlink(link, start.assumingMemoryBound(to: CChar.self), room.count)
        }
        return count < 0 ? nil : String(decoding: buffer.prefix(count), as: UTF8.self)
    }

    private static func absolute(_ path: String) throws(VMMError) -> String {
        if path.hasPrefix("/") { return path }
        // SAFETY: getcwd allocates the string, which is copied and freed here.
        guard let folder = unsafe getcwd(nil, 0) else { throw VMMError.last("getcwd") }
        defer { unsafe free(folder) }
        return unsafe "\(String(cString: folder))/\(path)"
    }
}

/// Identity of a file: device, inode and modification time (inodes are reused at once). Unknown if there is no file.
private struct FileIdentity: Equatable, Sendable {
    private let device: UInt64
    private let inode: UInt64
    private let seconds: Int
    private let nanoseconds: Int

    init(_ path: String) {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        guard unsafe lstat(path, &status) == 0 else {
            device = 0
            inode = 0
            seconds = 0
            nanoseconds = 0
            return
        }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        seconds = status.st_mtim.tv_sec
        nanoseconds = status.st_mtim.tv_nsec
    }

    var isKnown: Bool { inode != 0 }
}

/// An advisory lock on a folder, held while a socket in it is checked and replaced. Waits at most two seconds for another process.
private final class FolderLock {
    private var descriptor: Int32

    init(_ path: String) throws(VMMError) {
        // SAFETY: the string lives for the call.
        descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw VMMError.last("open \(path)") }
        for _ in 0..<200 {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return }
            usleep(10_000)
        }
        release()
        throw .host("\(path): another process holds its lock (waited 2 seconds)")
    }

    func release() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        descriptor = -1
    }

    deinit {
        release()
    }

    /// Whether other users can write to the folder, or read it, which is all that flock(2) needs. False if stat(2) fails: taking the lock then throws the reason.
    static func isShared(_ path: String) -> Bool {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        guard unsafe stat(path, &status) == 0 else { return false }
        return status.st_mode & 0o066 != 0 || status.st_uid != geteuid() && status.st_uid != 0
    }

    static func isSame(_ left: String, _ right: String) throws(VMMError) -> Bool {
        var first = stat()
        var second = stat()
        // SAFETY: the strings live for the calls, which write only the variables.
        guard unsafe stat(left, &first) == 0 else { throw VMMError.last("--api-socket: \(left)").asking(.user) }
        guard unsafe stat(right, &second) == 0 else { throw VMMError.last("stat \(right)") }
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino
    }
}
