// SPDX-License-Identifier: Apache-2.0

internal import CSandbox
internal import Glibc
internal import VMMBase

/// A file or folder that the VM's process may use after the start, and how.
package struct AllowedPlace: Sendable, Equatable {
    /// Kinds of use.
    package struct Use: OptionSet, Sendable {
        /// The bits.
        package let rawValue: UInt8

        /// From bits.
        package init(rawValue: UInt8) {
            self.rawValue = rawValue
        }

        /// Open a file for reading.
        package static let read = Use(rawValue: 1)
        /// Open a file for writing.
        package static let write = Use(rawValue: 2)
        /// Make a file in a folder.
        package static let make = Use(rawValue: 4)
        /// Remove or rename a file in a folder.
        package static let remove = Use(rawValue: 8)
    }

    /// The file; or the folder, with all that is below it.
    package let path: String
    /// What is allowed there.
    package let use: Use

    /// Describes a place.
    package init(_ path: String, _ use: Use) {
        self.path = path
        self.use = use
    }
}

/// A set of Landlock rules (landlock(7)): a thread that enters it may open, make and remove only what the rules name. Files that are open stay usable.
struct Landlock: ~Copyable, Sendable {
    /// Rights of the kernel's interface (linux/landlock.h).
    private enum Right {
        static let writeFile: UInt64 = 1 << 1
        static let readFile: UInt64 = 1 << 2
        static let removeFile: UInt64 = 1 << 5
        static let makeRegular: UInt64 = 1 << 8
        static let truncate: UInt64 = 1 << 14  // version 3
        static let ioctlOfDevices: UInt64 = 1 << 15  // version 5
        /// Rights that a rule for a file may have.
        static let ofFiles = writeFile | readFile | truncate | ioctlOfDevices

        /// All rights of a version.
        static func all(_ version: Int) -> UInt64 {
            let count: UInt64 = version >= 5 ? 16 : version >= 3 ? 15 : version == 2 ? 14 : 13
            return (1 << count) - 1
        }
    }

    /// TCP's bind and connect, version 4.
    private static let networkRights: UInt64 = 0x3

    /// The version of the kernel's interface; 0 without Landlock.
    static var version: Int {
        Int(max(0, csandbox_landlock_version()))
    }

    private let rules: OwnedFileDescriptor
    private let handled: UInt64

    /// Rules that deny everything. The version is not 0.
    init(version: Int) throws(VMMError) {
        handled = Right.all(version)
        let number = csandbox_landlock_rules(handled, version >= 4 ? Landlock.networkRights : 0)
        rules = OwnedFileDescriptor(owning: try VMMError.check(number, "landlock_create_ruleset"))
    }

    /// Allows the use of a place. Does nothing if there is no such file.
    borrowing func allow(_ place: AllowedPlace) throws(VMMError) {
        // SAFETY: the string lives for the call.
        let number = unsafe csandbox_open_place(place.path)
        if number == -ENOENT { return }
        let opened = OwnedFileDescriptor(owning: try VMMError.check(number, "open \(place.path)"))
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(opened.rawValue, &status) == 0 else { throw VMMError.last("stat \(place.path)") }
        var rights: UInt64 = 0
        if place.use.contains(.read) { rights |= Right.readFile | Right.ioctlOfDevices }
        if place.use.contains(.write) { rights |= Right.writeFile | Right.truncate | Right.ioctlOfDevices }
        if place.use.contains(.make) { rights |= Right.makeRegular }
        if place.use.contains(.remove) { rights |= Right.removeFile }
        if status.st_mode & S_IFMT != S_IFDIR { rights &= Right.ofFiles }
        rights &= handled
        guard rights != 0 else { return }
        let result = csandbox_landlock_allow(rules.rawValue, opened.rawValue, rights)
        // Pipes and sockets have no place in the file system: Landlock takes no rule for them, and restricts none of their uses.
        if result == -EBADFD { return }
        _ = try VMMError.check(result, "landlock_add_rule \(place.path)")
    }

    /// Restricts the calling thread, and those that it makes later, for ever.
    borrowing func restrictThread() throws(VMMError) {
        _ = try VMMError.check(csandbox_landlock_restrict(rules.rawValue), "landlock_restrict_self")
    }
}
