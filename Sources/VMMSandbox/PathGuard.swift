// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// Decides which paths the API may open after the start, so that a client gets a clear answer. Landlock enforces the same where the kernel has it.
struct PathGuard: Sendable {
    private struct Identity: Equatable, Sendable {
        let device: UInt
        let inode: UInt
    }

    /// The folders without symbolic links, each with a slash at its end.
    private let folders: [String]
    /// The configured files.
    private let files: [Identity]
    /// Length of the longest file in bytes; nil if a block device is among them, whose length is not known here.
    let longestFile: UInt64?
    /// The longest file that the process may write, in bytes (RLIMIT_FSIZE); nil without a limit.
    var fileSizeLimit: UInt64?

    /// Looks at the places now: later changes of links and names have no effect.
    init(_ places: [AllowedPlace], folders: [String]) throws(VMMError) {
        var files: [Identity] = []
        var longest: UInt64? = 0
        for place in places {
            guard let status = PathGuard.status(place.path), status.st_mode & S_IFMT != S_IFDIR else { continue }
            files.append(PathGuard.identity(status))
            if status.st_mode & S_IFMT == S_IFBLK { longest = nil }
            longest = longest.map { max($0, UInt64(max(0, status.st_size))) }
        }
        self.files = files
        longestFile = longest
        var resolved: [String] = []
        for folder in folders {
            guard let path = PathGuard.resolve(folder) else { throw VMMError.last("--allow-folder \(folder)").asking(.user) }
            resolved.append(path.hasSuffix("/") ? path : path + "/")
        }
        self.folders = resolved
    }

    /// Throws unless it is a folder.
    static func checkFolder(_ path: String) throws(VMMError) {
        guard let status = status(path) else { throw VMMError.last("--allow-folder \(path)").asking(.user) }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw .user("--allow-folder \(path): it is not a folder") }
    }

    /// Throws unless the path names a configured file, or one in the folders. On the file thread.
    func check(_ path: String) throws(VMMError) {
        let status = PathGuard.status(path)
        if let status, files.contains(PathGuard.identity(status)) { return }
        // A file that does not exist yet lies where its folder is; that of a link to nothing would lie elsewhere.
        let place = PathGuard.resolve(path) ?? PathGuard.placeOfNewFile(path)
        guard let place, folders.contains(where: { "\(place)/".hasPrefix($0) }) else {
            throw VMMError(
                .user, "\(path): the sandbox allows only the files of the configuration and folders named at the start",
                advice: "start the VM with --allow-folder FOLDER")
        }
        if let limit = fileSizeLimit, let status, status.st_mode & S_IFMT == S_IFREG,
            UInt64(max(0, status.st_size)) > limit
        {
            throw .user("\(path): it is longer than \(limit) bytes, the limit that was set at the start for all files of the VM")
        }
    }

    /// Where a file will be that does not exist; nil for a symbolic link, or if there is no folder.
    private static func placeOfNewFile(_ path: String) -> String? {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        guard unsafe lstat(path, &status) != 0, errno == ENOENT else { return nil }
        return resolve(path.folderPath).map { "\($0)/\(path.fileName)" }
    }

    private static func identity(_ status: stat) -> Identity {
        Identity(device: UInt(status.st_dev), inode: UInt(status.st_ino))
    }

    private static func status(_ path: String) -> stat? {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        return unsafe stat(path, &status) == 0 ? status : nil
    }

    /// The path without symbolic links (realpath(3)); nil if there is no such file.
    private static func resolve(_ path: String) -> String? {
        // SAFETY: realpath allocates the string, which is copied and freed here.
        guard let resolved = unsafe realpath(path, nil) else { return nil }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}
