// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import SymVMM

/// A folder of modules: `RELEASE/SOURCE/symbiotic.ko`, where SOURCE tells the source's versions apart.
///
/// A module runs in the guest's kernel. So it is taken only from folders that nobody but root and this user can change.
package struct ModuleStore: Sendable, Equatable {
    /// The module's file in its folder.
    static let fileName = "symbiotic.ko"
    /// Where root puts modules for all users.
    static let systemPath = "/var/lib/symvmm/modules"

    /// The folder's path. It need not exist.
    package let path: String

    /// The store in a folder.
    package init(path: String) {
        self.path = path
    }

    /// A module in a store.
    package struct Module: Sendable, Equatable {
        /// The kernel's release.
        package let release: String
        /// The version of the source: 16 hexadecimal digits of its hash, or of the file's hash if the file was added alone.
        package let source: String
        /// The file's path.
        package let path: String
        /// When it was added, in seconds since 1970.
        package let seconds: Int
        /// The file.
        package let bytes: [UInt8]
    }

    /// The stores in which modules are looked for: this user's, then the system's.
    package static func all() -> [ModuleStore] {
        [userPath, systemPath].compactMap { $0 }.map { ModuleStore(path: $0) }
    }

    /// The store to which this user adds modules: root the system's, unless XDG_DATA_HOME is set.
    package static func own() throws(VMMError) -> ModuleStore {
        if geteuid() == 0, variable("XDG_DATA_HOME") == nil { return ModuleStore(path: systemPath) }
        guard let path = userPath else { throw .user("there is no folder for your modules: set HOME or XDG_DATA_HOME") }
        return ModuleStore(path: path)
    }

    /// The user's store (XDG Base Directory Specification); nil without a home.
    private static var userPath: String? {
        let folder = variable("XDG_DATA_HOME") ?? variable("HOME").map { "\($0)/.local/share" }
        return folder.map { "\($0)/symvmm/modules" }
    }

    /// The value of an environment variable if it is an absolute path.
    private static func variable(_ name: String) -> String? {
        // SAFETY: nothing in this process changes the environment; the string is copied at once.
        guard let value = unsafe getenv(name).map({ unsafe String(cString: $0) }), value.hasPrefix("/") else { return nil }
        return value
    }

    /// The module for a kernel that was added last; nil if there is none.
    package func newest(for release: String) throws(VMMError) -> Module? {
        guard KernelRelease.isRelease(release), let folder = try TrustedFolder.open(path), let kernel = try folder.folder(release) else {
            return nil
        }
        return try ModuleStore.modules(in: kernel, release).max { ($0.seconds, $0.source) < ($1.seconds, $1.source) }
    }

    /// All modules, by release.
    package func list() throws(VMMError) -> [Module] {
        guard let folder = try TrustedFolder.open(path) else { return [] }
        var modules: [Module] = []
        for release in try folder.names() where KernelRelease.isRelease(release) {
            guard let kernel = try folder.folder(release) else { continue }
            modules += try ModuleStore.modules(in: kernel, release)
        }
        return modules
    }

    private static func modules(in kernel: borrowing TrustedFolder, _ release: String) throws(VMMError) -> [Module] {
        var modules: [Module] = []
        for source in try kernel.names() {
            guard let folder = try kernel.folder(source), let file = try folder.read(fileName, atMost: ModuleFile.limit) else { continue }
            modules.append(
                Module(release: release, source: source, path: "\(folder.path)/\(fileName)", seconds: file.seconds, bytes: file.bytes))
        }
        return modules
    }

    /// Adds a module, or replaces it.
    ///
    /// - Parameters:
    ///   - bytes: the file.
    ///   - path: its name in errors.
    ///   - source: the version of its source; nil: the file's hash.
    package func add(_ bytes: [UInt8], path file: String, source: String? = nil) throws(VMMError) -> Module {
        let module = try ModuleFile(bytes, path: file)
        guard module.name == "symbiotic" else { throw .user("\(file): the module '\(module.name)', not symbiotic.ko") }
        var hash = SourceHash()
        hash.add(bytes)
        let source = source ?? hash.text
        try makeFolders()
        guard let store = try TrustedFolder.open(path) else { throw VMMError(call: "open \(path)", errno: ENOENT) }
        let folder = try store.makeFolder(module.release).makeFolder(source)
        try folder.write(ModuleStore.fileName, bytes)
        return Module(
            release: module.release, source: source, path: "\(folder.path)/\(ModuleStore.fileName)", seconds: time(nil), bytes: bytes)
    }

    /// Creates the store's folder, and those above it.
    private func makeFolders() throws(VMMError) {
        var made = ""
        for name in path.split(separator: "/") {
            made += "/\(name)"
            // SAFETY: the string lives for the call.
            if unsafe mkdir(made, 0o755) != 0, errno != EEXIST { throw VMMError.last("mkdir \(made)") }
        }
    }
}
