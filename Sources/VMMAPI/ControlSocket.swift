// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import Synchronization

/// A listening Unix socket and its file: made with mode 0600, removed at the end.
///
/// With a path of choice, the runtime folder gets a symbolic link of the VM's name, so that the commands find the VM by name all the same.
package final class ControlSocket: Sendable {
    /// Longest path that fits a socket's address with its final zero byte (unix(7)).
    package static let longestPath = 107
    /// Most clients that wait to be accepted; the kernel may allow fewer (net.core.somaxconn). More wait in connect(2), or get EAGAIN there.
    package static let backlog: Int32 = 1024

    /// Path of the socket.
    package let path: String
    private let link: String?
    private let identity: FileIdentity
    private let number: Atomic<Int32>
    private let isRemoved = Atomic<Bool>(false)

    /// Binds and listens. A socket that a dead process left is replaced; a living one is an error.
    ///
    /// - Parameters:
    ///   - path: where the socket is to be; by name in the folder when nil.
    ///   - name: the VM's name.
    package init(path chosen: String? = nil, name: String, folder: RuntimeFolder) throws(ControlError) {
        let named = folder.socketPath(of: name)
        let path = chosen ?? named
        let folderLock = try FolderLock(folder.path)
        defer { folderLock.release() }
        try ControlSocket.makeRoom(at: named, for: "a VM named '\(name)' is running: choose another --name")
        var pathLock: FolderLock?
        if let chosen {
            let parent = ControlSocket.parent(of: chosen)
            // The same folder locked twice would wait for itself. One where others may put files, they may keep locked for ever; there the lock on
            // our own folder has to do, which all VMs of ours take that have the same one.
            if try !FolderLock.isSame(parent, folder.path), !FolderLock.isShared(parent) { pathLock = try FolderLock(parent) }
            try ControlSocket.makeRoom(at: chosen, for: "a VM that is running uses it: choose another --api-socket")
        }
        defer { pathLock?.release() }
        let socket = try ControlSocket.listen(at: path)
        self.path = path
        identity = FileIdentity(path)
        // SAFETY: both strings live for the call.
        if let chosen, chosen != named, unsafe symlink(try ControlSocket.absolute(chosen), named) == 0 {
            link = named
        } else {
            link = nil
        }
        number = Atomic(socket)
    }

    /// Hands the listening socket to the server, which closes it. Once.
    package func takeDescriptor() -> Int32 {
        number.exchange(-1, ordering: .acquiringAndReleasing)
    }

    /// Removes the files, unless another VM has put its own in their place. May be called more than once.
    package func remove() {
        let descriptor = takeDescriptor()
        if descriptor >= 0 { close(descriptor) }
        // From then on the names may be another VM's.
        guard !isRemoved.exchange(true, ordering: .acquiringAndReleasing) else { return }
        // SAFETY: the strings live for the calls.
        if identity.isKnown, FileIdentity(path) == identity { _ = unsafe unlink(path) }
        if let link, ControlSocket.target(of: link) != nil { _ = unsafe unlink(link) }
    }

    deinit {
        remove()
    }

    /// Whether a process listens at the path.
    package static func isAlive(_ path: String) -> Bool {
        guard let descriptor = try? connect(to: path) else { return false }
        close(descriptor)
        return true
    }

    /// The process that listens at the path; nil when nobody does, or it can't be seen from here.
    package static func listener(at path: String) -> RunningProcess? {
        guard let descriptor = try? connect(to: path) else { return nil }
        defer { close(descriptor) }
        return RunningProcess(behind: descriptor)
    }

    /// Removes a socket, or a link to one, that nobody listens at. Nothing else is touched.
    package static func removeIfStale(_ path: String) {
        guard let lock = try? FolderLock(parent(of: path)) else { return }
        defer { lock.release() }
        // SAFETY: the string lives for the call.
        if !isAlive(path), isSocketOrLink(path) { _ = unsafe unlink(path) }
    }

    /// Makes sure that a socket can be bound at a path.
    private static func makeRoom(at path: String, for living: String) throws(ControlError) {
        guard path.utf8.count <= longestPath else {
            throw .usage("\(path): a socket's path has at most \(longestPath) bytes, this one has \(path.utf8.count)")
        }
        guard FileIdentity(path).isKnown || target(of: path) != nil else { return }
        guard isSocketOrLink(path) else { throw .usage("\(path): exists and is not a socket") }
        if isAlive(path) { throw .usage("\(path): \(living)") }
        // SAFETY: the string lives for the call.
        guard unsafe unlink(path) == 0 else { throw .host("\(KVMError.last("remove \(path)"))") }
    }

    /// Listens under a name of its own first, then gives the socket its name: who sees the file may connect.
    private static func listen(at path: String) throws(ControlError) -> Int32 {
        let temporary = try temporaryPath(for: path)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw .host("\(KVMError.last("socket"))") }
        // The kernel gives the file the socket's mode, so it is closed to others from the start, whatever the umask (Linux, unix_bind).
        let isBound = unsafe fchmod(descriptor, 0o600) == 0 && withAddress(temporary) { unsafe bind(descriptor, $0, $1) } == 0
        // SAFETY: both strings live for the call. A link, unlike a rename, leaves alone what another process has put there meanwhile.
        let isOpen = unsafe isBound && Glibc.listen(descriptor, backlog) == 0 && Glibc.link(temporary, path) == 0
        let error = KVMError.last("bind \(path)")
        // SAFETY: the string lives for the call.
        if isBound { _ = unsafe unlink(temporary) }
        guard isOpen else {
            close(descriptor)
            throw .host("\(error)")
        }
        return descriptor
    }

    /// A name beside the path, at which nothing is, no longer than what fits. The usual one first, so that what a process that was killed has left
    /// is found again; others when somebody has put something else there.
    private static func temporaryPath(for path: String) throws(ControlError) -> String {
        let name = path.split(separator: "/", omittingEmptySubsequences: false).last?.utf8.count ?? 0
        for attempt in 0..<16 {
            let ending = attempt == 0 ? "~" : "~" + String(UInt16.random(in: 0x1000 ... .max), radix: 16)
            let surplus = max(0, path.utf8.count + ending.utf8.count - longestPath)
            // In the same folder: what is cut off is of the name.
            guard surplus <= name else { break }
            let temporary = path.dropLast(surplus) + ending
            guard (try? makeRoom(at: String(temporary), for: "in use")) != nil else { continue }
            return String(temporary)
        }
        throw .host("\(path): no name beside it is free: choose another folder")
    }

    /// Connects within a blocked moment: a Unix socket connects at once or fails, save where the listener's queue is full.
    private static func connect(to path: String) throws(KVMError) -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw KVMError.last("socket") }
        // EAGAIN: the queue is full, so somebody lives.
        if unsafe withAddress(path, { unsafe Glibc.connect(descriptor, $0, $1) }) == 0 || errno == EAGAIN { return descriptor }
        let error = KVMError.last("connect \(path)")
        close(descriptor)
        throw error
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
            // SAFETY: every socket address begins as a sockaddr, and its true size is passed.
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
            // SAFETY: the buffer has as many bytes as is said.
            return unsafe readlink(link, start.assumingMemoryBound(to: CChar.self), room.count)
        }
        return count < 0 ? nil : String(decoding: buffer.prefix(count), as: UTF8.self)
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func absolute(_ path: String) throws(ControlError) -> String {
        if path.hasPrefix("/") { return path }
        // SAFETY: getcwd allocates the string, which is copied and freed here.
        guard let folder = unsafe getcwd(nil, 0) else { throw .host("\(KVMError.last("getcwd"))") }
        defer { unsafe free(folder) }
        return unsafe "\(String(cString: folder))/\(path)"
    }
}

/// Which file a path means: device, inode and the moment it was made (inodes are used again at once). Unknown when there is none.
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

/// An advisory lock on a folder while a socket in it is looked at and replaced. Another process may hold it, so waiting is bounded.
private final class FolderLock {
    private var descriptor: Int32

    init(_ path: String) throws(ControlError) {
        // SAFETY: the string lives for the call.
        descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .host("\(KVMError.last("open \(path)"))") }
        for _ in 0..<200 {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return }
            usleep(10_000)
        }
        release()
        throw .host("\(path): another process has kept it locked for 2 seconds")
    }

    func release() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        descriptor = -1
    }

    deinit {
        release()
    }

    /// Whether others may put files there, and so hold the lock. What cannot be looked at is left to the lock, which says why.
    static func isShared(_ path: String) -> Bool {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        guard unsafe stat(path, &status) == 0 else { return false }
        return status.st_mode & 0o022 != 0 || status.st_uid != geteuid() && status.st_uid != 0
    }

    static func isSame(_ left: String, _ right: String) throws(ControlError) -> Bool {
        var first = stat()
        var second = stat()
        // SAFETY: the strings live for the calls, which write only the variables.
        guard unsafe stat(left, &first) == 0 else { throw .usage("\(KVMError.last("--api-socket: \(left)"))") }
        guard unsafe stat(right, &second) == 0 else { throw .host("\(KVMError.last("stat \(right)"))") }
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino
    }
}
