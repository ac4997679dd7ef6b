// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc

/// The folder of this user's control sockets, with mode 0700.
///
/// It is the first of these whose parent exists: `$XDG_RUNTIME_DIR/symvmm`, `/run/user/UID/symvmm`, `/tmp/symvmm-UID`.
package struct RuntimeFolder: Sendable {
    /// The folder's path.
    package let path: String

    /// Creates the folder if needed, and checks that it is a folder (not a symbolic link), that this user owns it, and that others have no access.
    package init() throws(VMMError) {
        // SAFETY: nothing in this process changes the environment; the string is copied at once.
        let configured = unsafe getenv("XDG_RUNTIME_DIR").map { unsafe String(cString: $0) }
        try self.init(path: RuntimeFolder.choose(configured: configured, uid: geteuid()))
    }

    /// The same for a given path.
    package init(path: String) throws(VMMError) {
        // SAFETY: the string lives for the call.
        if unsafe mkdir(path, 0o700) != 0, errno != EEXIST {
            throw VMMError.last("mkdir \(path)", advice: "set XDG_RUNTIME_DIR to a folder of yours")
        }
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        guard unsafe lstat(path, &status) == 0 else { throw VMMError.last("stat \(path)") }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw .host("\(path): not a folder (symbolic links are not followed): remove it") }
        guard status.st_uid == geteuid() else { throw .host("\(path): belongs to user \(status.st_uid), not to you: set XDG_RUNTIME_DIR") }
        guard status.st_mode & 0o077 == 0 else { throw .host("\(path): others may enter it: run chmod 700 \(path)") }
        self.path = path
    }

    /// The default path for a user.
    static func choose(configured: String?, uid: uid_t) -> String {
        if let configured, configured.hasPrefix("/"), isFolder(configured) {
            return (configured.hasSuffix("/") ? String(configured.dropLast()) : configured) + "/symvmm"
        }
        return isFolder("/run/user/\(uid)") ? "/run/user/\(uid)/symvmm" : "/tmp/symvmm-\(uid)"
    }

    /// The socket path of a VM.
    package func socketPath(of name: String) -> String {
        "\(path)/\(name).sock"
    }

    /// Names of all VMs with a socket here, sorted. Includes sockets of dead processes. Empty if the folder cannot be read.
    package func names() -> [String] {
        // SAFETY: the stream is closed below, and an entry is read before the next call changes it.
        guard let stream = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            // SAFETY: the kernel ends d_name with a zero byte within the entry.
            let file = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if file.hasSuffix(".sock"), file.utf8.count > 5 { names.append(String(file.dropLast(5))) }
        }
        return names.sorted()
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}
