// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage
package import VMMBase

/// The control group of a jail: cgroup v2 (Documentation/admin-guide/cgroup-v2.rst of the kernel).
package struct ControlGroup: Sendable {
    /// A value for a file of the control group, such as `memory.max`.
    package struct Control: Sendable, Equatable {
        /// The file's name.
        package let file: String
        /// What is written to it.
        package let value: String

        /// Parses `FILE=VALUE`.
        package init(option: String) throws(VMMError) {
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, !parts[1].isEmpty, Control.isFile(parts[0]) else {
                throw .user("--cgroup: '\(option)' is not a limit: give FILE=VALUE, such as memory.max=1G")
            }
            file = parts[0]
            value = parts[1]
        }

        /// The controller that has the file; nil for the files that every group has.
        var controller: String? {
            let name = file.split(separator: ".")[0]
            return name == "cgroup" ? nil : String(name)
        }

        /// Only names of files that set limits: not `cgroup.procs`, which would move processes, or `cgroup.freeze`.
        private static func isFile(_ name: String) -> Bool {
            let isPlain = name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                    true
                case UInt8(ascii: "."), UInt8(ascii: "_"): true
                default: false
                }
            }
            return isPlain && name.contains(".") && !name.hasPrefix(".") && (!name.hasPrefix("cgroup.") || name.hasPrefix("cgroup.max."))
        }
    }

    /// The group's folder.
    let path: String
    /// Folders to remove after it, the deepest first.
    private let parents: [String]

    /// Checks a group above that of the jail: a relative path without `.` and `..`.
    package static func checkParent(_ parent: String) throws(VMMError) {
        let components = parent.split(separator: "/", omittingEmptySubsequences: false)
        guard !components.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
            throw .user("--parent-cgroup: '\(parent)' is not a control group: give a relative path such as vms/web, without '.' and '..'")
        }
    }

    /// Creates the group `PARENT/NAME` and sets its limits.
    ///
    /// - Parameters:
    ///   - name: the group's name.
    ///   - parent: the group above it; its parts are made if there are none.
    ///   - isShared: whether the parent belongs to all jails, so that the last one removes it. Otherwise it is removed only by the jail that made it.
    ///   - controls: the limits.
    /// - Throws: `VMMError` if the host has no cgroup v2, lacks a controller or refuses a value. Then nothing is left behind.
    init(name: String, parent: String, isShared: Bool, controls: [Control]) throws(VMMError) {
        let top = try ControlGroup.mountPoint()
        let components = parent.split(separator: "/").map(String.init)
        let ancestors = (0...components.count).map { ([top] + components.prefix($0)).joined(separator: "/") }
        path = "\(ancestors[components.count])/\(name)"
        let available = try ControlGroup.read("\(top)/cgroup.controllers").split(separator: " ").map(String.init)
        for control in controls {
            if let controller = control.controller, !available.contains(controller) {
                let offer = available.isEmpty ? "none" : available.joined(separator: ", ")
                throw .host("--cgroup \(control.file): this host's cgroup v2 has no controller '\(controller)' (it has: \(offer))")
            }
        }
        var made: [String] = []
        do throws(VMMError) {
            // Another jail may remove the parent, which is empty after its own group, between the two calls.
            var attempts = 0
            while true {
                for folder in ancestors.dropFirst() {
                    if try ControlGroup.make(folder) { made.insert(folder, at: 0) }
                }
                try ControlGroup.enable(Set(controls.compactMap(\.controller)), in: ancestors)
                // SAFETY: the string lives for the call.
                if unsafe mkdir(path, 0o755) == 0 { break }
                let error = VMMError.last("create the control group \(path)")
                attempts += 1
                guard attempts < 100, error.errno?.rawValue == ENOENT || error.errno?.rawValue == EEXIST else { throw error }
                // A group without processes is what a killed jail left. One with processes may be a jail's in another base folder.
                guard unsafe rmdir(path) == 0 || errno == ENOENT else {
                    throw .user("--id: the control group \(path) is in use: choose another --id or --parent-cgroup")
                }
            }
            made.insert(path, at: 0)
            for control in controls {
                try ControlGroup.write(control.value, "\(path)/\(control.file)", "--cgroup \(control.file)=\(control.value)")
            }
        } catch {
            for folder in made { _ = unsafe rmdir(folder) }
            throw error
        }
        let last = ancestors[components.count]
        parents = Array(made.dropFirst()) + (isShared && !made.contains(last) ? [last] : [])
    }

    /// Moves a process into the group.
    func add(_ process: pid_t) throws(VMMError) {
        try ControlGroup.write(String(process), "\(path)/cgroup.procs", "move the VM into the control group \(path)")
    }

    /// Ends what still runs in the group, removes it and the parents that are empty. Returns whether the group is gone.
    func remove() -> Bool {
        let isGone = ControlGroup.remove(path)
        // SAFETY: the strings live for the calls.
        for parent in parents { _ = unsafe rmdir(parent) }
        return isGone
    }

    private static func remove(_ path: String) -> Bool {
        // Linux 5.14. Older: the VM is the only process, and it has ended.
        try? write("1", "\(path)/cgroup.kill", "")
        for _ in 0..<500 {
            // SAFETY: the string lives for the call.
            if unsafe rmdir(path) == 0 || errno == ENOENT { return true }
            guard errno == EBUSY else { return false }
            usleep(10_000)
        }
        return false
    }

    /// Whether the folder is new.
    private static func make(_ folder: String) throws(VMMError) -> Bool {
        // SAFETY: the string lives for the call.
        if unsafe mkdir(folder, 0o755) == 0 { return true }
        guard errno == EEXIST else { throw VMMError.last("create the control group \(folder)") }
        return false
    }

    /// Lets the groups below each ancestor use the controllers.
    private static func enable(_ controllers: Set<String>, in ancestors: [String]) throws(VMMError) {
        for folder in ancestors {
            let enabled = try read("\(folder)/cgroup.subtree_control").split(separator: " ").map(String.init)
            for controller in controllers.sorted() where !enabled.contains(controller) {
                try write("+\(controller)", "\(folder)/cgroup.subtree_control", "enable the controller '\(controller)' in \(folder)")
            }
        }
    }

    private static func read(_ path: String) throws(VMMError) -> String {
        String(decoding: try SmallFile.read(path, atMost: 1 << 20), as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
    }

    private static func write(_ text: String, _ path: String, _ what: String) throws(VMMError) {
        do throws(VMMError) {
            let file = try OwnedFileDescriptor.open(path, O_WRONLY)
            let bytes = Array(text.utf8)
            // SAFETY: the array has this many bytes.
            guard unsafe Glibc.write(file.rawValue, bytes, bytes.count) == bytes.count else { throw VMMError.last(what) }
        } catch {
            throw VMMError(call: what, errno: error.errno)
        }
    }

    /// Where cgroup v2 is mounted, from /proc/self/mounts (proc(5)).
    private static func mountPoint() throws(VMMError) -> String {
        let text = String(decoding: try SmallFile.read("/proc/self/mounts", atMost: 1 << 24), as: UTF8.self)
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count > 2, fields[2] == "cgroup2", !fields[1].contains("\\") { return String(fields[1]) }
        }
        throw .host(
            "--cgroup: this host has no cgroup v2: mount it (mount -t cgroup2 none /sys/fs/cgroup), or omit --cgroup and --parent-cgroup")
    }
}
