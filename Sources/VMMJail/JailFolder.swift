// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage
internal import VMMBase

/// The folder of a jail on the host: `BASE/PROGRAM/ID/root`, as Firecracker's jailer has it.
///
/// The jail's root is a tmpfs that only its mount namespace sees. On the host, `root` holds what the user put there before, `run` (the program's
/// only folder to write to, with its control socket) and `PROGRAM.pid`. A lock on the folder `ID` says that the jail is in use.
final class JailFolder {
    /// Absolute path of the folder `root`.
    let root: String
    /// What the user put there before the start.
    let entries: [Bind]
    private let base: String
    private let programName: String
    private let id: String
    /// Folders above `PROGRAM` that the jail made, the deepest first.
    private let made: [String]
    /// The folder `ID`, locked while the jail is in use.
    private let folder: OwnedFileDescriptor
    private let rootFolder: OwnedFileDescriptor

    /// Makes the folders, takes the lock and removes what a killed jail of this name left.
    ///
    /// - Throws: `VMMError`. Then nothing is left behind.
    static func prepare(_ configuration: JailConfiguration) throws(VMMError) -> JailFolder {
        var made: [String] = []
        do throws(VMMError) {
            let base = try makeBase(configuration.baseFolder, &made)
            return try JailFolder(configuration, base: base, made: made)
        } catch {
            // SAFETY: the strings live for the calls.
            for path in made { _ = unsafe rmdir(path) }
            throw error
        }
    }

    private init(_ configuration: JailConfiguration, base: String, made: [String]) throws(VMMError) {
        let path = "\(base)/\(configuration.programName)/\(configuration.id)"
        let claimed = try JailFolder.claim(base, configuration.programName, configuration.id)
        var entries: [Bind] = []
        rootFolder = try JailFolder.makeRoot("\(path)/root", in: claimed, configuration, base, &entries)
        folder = claimed
        self.entries = entries
        root = "\(path)/root"
        self.base = base
        programName = configuration.programName
        id = configuration.id
        self.made = made
    }

    /// Writes the file `PROGRAM.pid`: the process number of the program, for the host.
    func writeProcessNumber(_ process: pid_t) throws(VMMError) {
        let name = "\(programName).pid"
        // SAFETY: the string lives for the call.
        let number = unsafe openat(rootFolder.rawValue, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard number >= 0 else { throw VMMError.last("create \(root)/\(name)") }
        let file = OwnedFileDescriptor(owning: number)
        let text = Array("\(process)\n".utf8)
        // SAFETY: the array has this many bytes.
        guard unsafe write(file.rawValue, text, text.count) == text.count else { throw VMMError.last("write \(root)/\(name)") }
    }

    /// Removes `run`, `PROGRAM.pid`, and the folders that are empty then. Call it when the program has ended. Idempotent.
    ///
    /// - Returns: whether nothing of the jail's own is left.
    func remove() -> Bool {
        let isClean = JailFolder.removeOwn(in: rootFolder, programName)
        JailFolder.removeEmpty(base, programName, id)
        // SAFETY: the strings live for the calls.
        for path in made { _ = unsafe rmdir(path) }
        return isClean
    }

    /// Makes the folder `root` and `run` in it, and lists what the user put there.
    private static func makeRoot(
        _ root: String, in folder: borrowing OwnedFileDescriptor, _ configuration: JailConfiguration, _ base: String,
        _ entries: inout [Bind]
    ) throws(VMMError) -> OwnedFileDescriptor {
        do throws(VMMError) {
            let rootFolder = try make("root", in: folder, path: root)
            _ = removeOwn(in: rootFolder, configuration.programName)
            entries = try list(rootFolder, root)
            try makeRunFolder(in: rootFolder, root, configuration)
            return rootFolder
        } catch {
            removeEmpty(base, configuration.programName, configuration.id)
            throw error
        }
    }

    /// Opens or creates `BASE/PROGRAM/ID`, and locks it.
    private static func claim(_ base: String, _ programName: String, _ id: String) throws(VMMError) -> OwnedFileDescriptor {
        let path = "\(base)/\(programName)"
        let isNew = HostPath.kind(path, followsLinks: false) == nil
        do throws(VMMError) {
            return try lock(base, programName, id)
        } catch {
            // SAFETY: the string lives for the call, which removes only an empty folder.
            if isNew { _ = unsafe rmdir(path) }
            throw error
        }
    }

    private static func lock(_ base: String, _ programName: String, _ id: String) throws(VMMError) -> OwnedFileDescriptor {
        let baseFolder = try OwnedFileDescriptor.open(base, O_RDONLY | O_DIRECTORY)
        let path = "\(base)/\(programName)/\(id)"
        // Another jail that ends may remove an empty folder before it is locked, or before something is in it.
        for _ in 0..<1000 {
            let programFolder = try make(programName, in: baseFolder, path: "\(base)/\(programName)")
            guard let folder = try makeUnlessGone(id, in: programFolder, path: path) else { continue }
            guard flock(folder.rawValue, LOCK_EX | LOCK_NB) == 0 else {
                throw .user("--id: a jail named '\(id)' is running: choose another --id")
            }
            var opened = stat()
            var named = stat()
            // SAFETY: the string lives for the calls, which write only the variables.
            let isFound = unsafe fstat(folder.rawValue, &opened) == 0 && lstat(path, &named) == 0
            if isFound, opened.st_ino == named.st_ino { return folder }
        }
        throw .host("\(base)/\(programName): other jails keep removing it")
    }

    /// The same as `make`, but nil if the parent was removed meanwhile.
    private static func makeUnlessGone(
        _ name: String, in parent: borrowing OwnedFileDescriptor, path: String
    ) throws(VMMError) -> OwnedFileDescriptor? {
        do throws(VMMError) {
            return try make(name, in: parent, path: path)
        } catch {
            guard error.errno?.rawValue == ENOENT else { throw error }
            return nil
        }
    }

    /// The base folder's absolute path. Creates the folders that are missing.
    private static func makeBase(_ base: String, _ made: inout [String]) throws(VMMError) -> String {
        let path = HostPath.absolute(base)
        var prefix = ""
        for component in path.split(separator: "/") {
            prefix += "/\(component)"
            // SAFETY: the string lives for the call.
            if unsafe mkdir(prefix, 0o755) == 0 {
                made.insert(prefix, at: 0)
            } else {
                let error = VMMError.last("mkdir \(prefix)", advice: "give --chroot-base-dir, a folder of yours")
                guard HostPath.kind(prefix) != nil else { throw error.asking(.user) }
            }
        }
        return try HostPath.resolve(path, option: "--chroot-base-dir")
    }

    /// Opens a folder, which it makes if there is none. Refuses folders that other users could change.
    private static func make(_ name: String, in parent: borrowing OwnedFileDescriptor, path: String) throws(VMMError) -> OwnedFileDescriptor
    {
        // SAFETY: the string lives for the call.
        if unsafe mkdirat(parent.rawValue, name, 0o755) != 0, errno != EEXIST {
            throw VMMError.last("mkdir \(path)", advice: errno == ENOENT ? "" : "give --chroot-base-dir, a folder of yours")
        }
        // SAFETY: the string lives for the call.
        let number = unsafe openat(parent.rawValue, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard number >= 0 else { throw VMMError.last("open \(path)") }
        let folder = OwnedFileDescriptor(owning: number)
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(number, &status) == 0 else { throw VMMError.last("stat \(path)") }
        guard status.st_uid == geteuid() else {
            throw .host("\(path): belongs to user \(status.st_uid), not to you: choose another folder")
        }
        guard status.st_mode & 0o022 == 0 else { throw .host("\(path): others may write to it: run chmod go-w \(path)") }
        return folder
    }

    /// Makes the folder `run` for the program's user alone.
    private static func makeRunFolder(in rootFolder: borrowing OwnedFileDescriptor, _ root: String, _ configuration: JailConfiguration)
        throws(VMMError)
    {
        // SAFETY: the strings live for the calls.
        guard unsafe mkdirat(rootFolder.rawValue, "run", 0o700) == 0 else {
            throw VMMError.last("mkdir \(root)/run", advice: "remove it: the jail makes it")
        }
        guard unsafe fchownat(rootFolder.rawValue, "run", configuration.user, configuration.group, AT_SYMLINK_NOFOLLOW) == 0 else {
            let error = VMMError.last("chown \(root)/run")
            _ = unsafe unlinkat(rootFolder.rawValue, "run", AT_REMOVEDIR)
            throw error
        }
    }

    /// The entries of the folder `root`, but no symbolic links: they would show files that the user did not put there.
    private static func list(_ rootFolder: borrowing OwnedFileDescriptor, _ root: String) throws(VMMError) -> [Bind] {
        guard let names = FolderContents.names(in: rootFolder) else { throw VMMError.last("read \(root)") }
        var binds: [Bind] = []
        for name in names.map({ String(decoding: $0.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self) }).sorted() {
            guard let kind = HostPath.kind("\(root)/\(name)", followsLinks: false) else { throw VMMError.last("stat \(root)/\(name)") }
            guard kind != S_IFLNK else { throw .user("\(root)/\(name): is a symbolic link: use a hard link, or --bind") }
            binds.append(Bind(entry: "\(root)/\(name)", target: name, isFolder: kind == S_IFDIR))
        }
        return binds
    }

    /// Removes what a jail makes in `root`.
    private static func removeOwn(in rootFolder: borrowing OwnedFileDescriptor, _ programName: String) -> Bool {
        // SAFETY: the strings live for the calls.
        _ = unsafe unlinkat(rootFolder.rawValue, "\(programName).pid", 0)
        return FolderContents.removeFolder("run", in: rootFolder)
    }

    /// Removes the folders that are empty. The last jail of a program also removes the program's folder.
    private static func removeEmpty(_ base: String, _ programName: String, _ id: String) {
        for path in ["\(programName)/\(id)/root", "\(programName)/\(id)", programName] {
            // SAFETY: the string lives for the call, which removes only an empty folder.
            _ = unsafe rmdir("\(base)/\(path)")
        }
    }
}
