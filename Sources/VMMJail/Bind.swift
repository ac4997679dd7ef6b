// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VMMBase

/// A file or folder of the host that is visible in the jail: a bind mount (mount(2)).
package struct Bind: Sendable, Equatable {
    /// Absolute path on the host.
    package let source: String
    /// Path in the jail, relative to its root, without `.` and `..`.
    package let target: String
    /// Whether the program may write to it, as far as its user may.
    package let isWritable: Bool
    /// Whether it is a folder.
    package let isFolder: Bool

    /// Parses `SRC[:DST][:rw]`. DST is SRC where it is missing.
    package init(option: String) throws(VMMError) {
        var parts = option.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        isWritable = parts.count > 1 && parts.last == "rw"
        if isWritable { parts.removeLast() }
        guard (1...2).contains(parts.count), let source = parts.first, !source.isEmpty else {
            throw .user("--bind: '\(option)' is not a bind: give SRC, SRC:DST, SRC:rw or SRC:DST:rw")
        }
        let target = parts.count == 2 ? parts[1] : HostPath.absolute(source)
        let components = target.split(separator: "/").map(String.init)
        guard target.hasPrefix("/"), !components.isEmpty, !components.contains("."), !components.contains("..") else {
            throw .user("--bind: '\(target)' is not a place in the jail: give a path such as /disk.img, without '.' and '..'")
        }
        self.target = components.joined(separator: "/")
        self.source = try HostPath.resolve(source, option: "--bind")
        guard let kind = HostPath.kind(self.source) else { throw VMMError.last("--bind: \(source)").asking(.user) }
        isFolder = kind == S_IFDIR
    }

    /// An entry that the user put into the jail's folder. It keeps its place and may be written to, as with Firecracker's jailer.
    init(entry source: String, target: String, isFolder: Bool) {
        self.source = source
        self.target = target
        self.isWritable = true
        self.isFolder = isFolder
    }

    /// The folders above the target, the highest first.
    var parents: [String] {
        let components = target.split(separator: "/")
        return (1..<max(components.count, 1)).map { components.prefix($0).joined(separator: "/") }
    }

    /// Checks that no target is, or lies in, another one or a part of the jail.
    ///
    /// - Parameter taken: names in the jail's root that are not free.
    static func check(_ binds: [Bind], taken: [String]) throws(VMMError) {
        var seen = taken
        for bind in binds {
            if let other = seen.first(where: { isWithin($0, bind.target) || isWithin(bind.target, $0) }) {
                throw .user("--bind: /\(bind.target) and /\(other) overlap in the jail: choose another place")
            }
            seen.append(bind.target)
        }
        guard binds.count <= mostBinds else {
            throw .user("--bind: at most \(mostBinds) files and folders, not \(binds.count): bind a folder")
        }
    }

    /// The C shim's limit is 64, with the program and the run folder.
    private static let mostBinds = 60

    private static func isWithin(_ path: String, _ folder: String) -> Bool {
        path == folder || path.hasPrefix(folder + "/")
    }
}
