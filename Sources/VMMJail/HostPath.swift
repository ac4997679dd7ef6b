// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// Paths of the host, as a user writes them.
enum HostPath {
    /// The absolute path of an existing file or folder, without symbolic links (realpath(3)).
    ///
    /// - Parameter option: the option that has the path, for the error.
    static func resolve(_ path: String, option: String) throws(VMMError) -> String {
        guard !path.isEmpty else { throw .user("\(option): the path is empty") }
        // SAFETY: the string lives for the call; the result is copied and freed once.
        guard let resolved = unsafe realpath(path, nil) else { throw VMMError.last("\(option): \(path)").asking(.user) }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }

    /// The path with the current folder before it, if it is relative.
    static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/") else { return path }
        // SAFETY: getcwd allocates the text, which is copied and freed once.
        guard let current = unsafe getcwd(nil, 0) else { return path }
        defer { unsafe free(current) }
        let folder = unsafe String(cString: current)
        return "\(folder)/\(path)"
    }

    /// The kind of a file (S_IFMT bits of st_mode), or nil if there is none.
    ///
    /// - Parameter followsLinks: whether the kind is that of a symbolic link's target.
    static func kind(_ path: String, followsLinks: Bool = true) -> mode_t? {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        let result = unsafe followsLinks ? stat(path, &status) : lstat(path, &status)
        return result == 0 ? status.st_mode & S_IFMT : nil
    }
}
