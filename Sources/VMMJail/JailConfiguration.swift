// SPDX-License-Identifier: Apache-2.0

package import Glibc
package import VMMBase

/// What `symvmm jail` was asked for. Its makers check every value, so that the parts of the jail need not.
package struct JailConfiguration: Sendable {
    /// Name of the jail, and of the VM in it: 1 to 64 letters, digits and hyphens.
    package let id: String
    /// Absolute path of the program on the host.
    package let program: String
    /// The program's name in the jail, and that of the folder of all its jails.
    package let programName: String
    /// The program's user, on the host and in the jail.
    package let user: uid_t
    /// The program's group.
    package let group: gid_t
    /// The host's folder below which jails are.
    package var baseFolder = "/srv/jailer"
    /// Path of a network namespace to join; nil: none.
    package var networkNamespace: String?
    /// A new network namespace without interfaces.
    package var hasNewNetwork = false
    /// Values for files of the control group, in this order.
    package var controls: [ControlGroup.Control] = []
    /// The control group above that of the jail, relative to the cgroup v2 file system; nil for the program's name.
    package var parentGroup: String?
    /// The limits that setrlimit(2) sets.
    package var limits: [ResourceLimit] = [ResourceLimit(resource: .openFiles, value: 2048)]
    /// Files and folders of the host that are visible in the jail.
    package var binds: [Bind] = []
    /// Whether the jail continues in the background.
    package var isDaemon = false
    /// The program's arguments.
    package let arguments: [String]

    /// Checks the required values.
    ///
    /// - Parameters:
    ///   - user: nil for the user who started symvmm; root must choose another one.
    ///   - group: nil for the group of that user.
    ///   - program: path of a static program; nil for this program.
    ///   - arguments: a VMM's command and its options. The jail adds `--name ID` behind the command.
    ///   - isFirecracker: the arguments are Firecracker's options, to which the jail adds `--id ID`, and the program keeps the name under which it
    ///     was given, also that of a symbolic link, as Firecracker's jailer does.
    package init(id: String, user: uid_t?, group: gid_t?, program: String?, arguments: [String], isFirecracker: Bool = false)
        throws(VMMError)
    {
        let isPlain = id.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "-"): true
            default: false
            }
        }
        guard isPlain, (1...64).contains(id.utf8.count), !id.hasPrefix("-") else {
            throw .user("--id: '\(id)' is not a jail's name: give 1 to 64 letters, digits and hyphens, not beginning with a hyphen")
        }
        self.id = id
        (self.user, self.group) = try JailConfiguration.owner(user, group)
        self.program = try HostPath.resolve(program ?? "/proc/self/exe", option: "--exec-file")
        programName = isFirecracker ? program?.fileName ?? "firecracker" : self.program.fileName
        guard !programName.isEmpty, !["dev", "proc", "run"].contains(programName) else {
            throw .user("--exec-file: '\(programName)' is the name of a folder in the jail: rename the program")
        }
        if isFirecracker {
            // A program of another name is told which command it is.
            self.arguments = (programName == "firecracker" ? [] : ["firecracker"]) + ["--id", id] + arguments
            return
        }
        guard let command = arguments.first, command == "run" || command == "serve" else {
            throw .user("after '--', give the command of the VM: run or serve, and its options")
        }
        self.arguments = [command, "--name", id] + arguments.dropFirst()
    }

    /// Whether root started symvmm. Only root can choose a user, make devices and join network namespaces.
    package static var isPrivileged: Bool { geteuid() == 0 }

    private static func owner(_ user: uid_t?, _ group: gid_t?) throws(VMMError) -> (uid_t, gid_t) {
        guard isPrivileged else {
            if let user, user != geteuid() {
                throw .user("--uid: only root can run a VM as another user: omit --uid, or give \(geteuid())")
            }
            if let group, group != getegid() {
                throw .user("--gid: only root can run a VM as another group: omit --gid, or give \(getegid())")
            }
            return (geteuid(), getegid())
        }
        guard let user else { throw .user("--uid is missing: give the user of the VM, which is not root") }
        guard let group else { throw .user("--gid is missing: give the group of the VM, which is not root's") }
        guard user != 0, user != uid_t.max else { throw .user("--uid: \(user) is not possible: give a user of its own, which is not root") }
        guard group != 0, group != gid_t.max else {
            throw .user("--gid: \(group) is not possible: give a group of its own, which is not root's")
        }
        return (user, group)
    }
}

/// A limit of the program's resources (setrlimit(2)).
package struct ResourceLimit: Sendable, Equatable {
    /// The resources by the names that Firecracker's jailer has for them.
    package enum Resource: String, Sendable, CaseIterable {
        /// The largest size of a file that the program writes, in bytes.
        case fileSize = "fsize"
        /// One more than the largest number of a descriptor.
        case openFiles = "no-file"

        /// The number for setrlimit(2).
        var number: Int32 {
            switch self {
            case .fileSize: Int32(RLIMIT_FSIZE.rawValue)
            case .openFiles: Int32(RLIMIT_NOFILE.rawValue)
            }
        }
    }

    /// What is limited.
    package let resource: Resource
    /// The soft and the hard limit.
    package let value: UInt64

    /// Makes a limit.
    package init(resource: Resource, value: UInt64) {
        self.resource = resource
        self.value = value
    }

    /// Parses `fsize=BYTES` or `no-file=NUMBER`.
    package init(option: String) throws(VMMError) {
        let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let resource = Resource(rawValue: String(parts[0])), let value = UInt64(parts[1]) else {
            throw .user("--resource-limit: '\(option)' is not a limit: give fsize=BYTES or no-file=NUMBER")
        }
        self.init(resource: resource, value: value)
    }
}
