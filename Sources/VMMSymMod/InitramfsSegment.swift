// SPDX-License-Identifier: Apache-2.0

/// An archive of the initramfs, in the format newc (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
package struct InitramfsSegment {
    /// What an entry is: the upper bits of its mode.
    private enum Kind: UInt32 {
        case folder = 0o040000
        case file = 0o100000
        case characterDevice = 0o020000
    }

    /// The archive so far.
    private var bytes: [UInt8] = []
    /// The last inode number. Equal numbers would be links.
    private var inode: UInt32 = 0

    /// An empty archive.
    package init() {}

    /// Adds a folder. Its own folder comes first.
    package mutating func add(folder name: String) {
        add(name, .folder, 0o700, links: 2)
    }

    /// Adds a file of less than 4 GiB.
    package mutating func add(file name: String, permissions: UInt32, _ contents: [UInt8]) {
        add(name, .file, permissions, contents)
    }

    /// Adds a character device.
    package mutating func add(device name: String, major: UInt32, minor: UInt32) {
        add(name, .characterDevice, 0o600, device: (major, minor))
    }

    /// The whole archive, with its end.
    package func finished() -> [UInt8] {
        var archive = self
        archive.inode = 0
        archive.append(name: "TRAILER!!!", mode: 0, inode: 0, links: 1, byteCount: 0)
        return archive.bytes
    }

    private mutating func add(
        _ name: String, _ kind: Kind, _ permissions: UInt32, links: UInt32 = 1, _ contents: [UInt8] = [],
        device: (major: UInt32, minor: UInt32) = (0, 0)
    ) {
        inode &+= 1
        append(
            name: name, mode: kind.rawValue | permissions, inode: inode, links: links,
            byteCount: UInt32(truncatingIfNeeded: contents.count),
            device: device)
        bytes += contents
        align()
    }

    /// A header: 13 numbers of 8 hexadecimal digits. All entries belong to root and have no time.
    private mutating func append(
        name: String, mode: UInt32, inode: UInt32, links: UInt32, byteCount: UInt32, device: (major: UInt32, minor: UInt32) = (0, 0)
    ) {
        let nameBytes = Array(name.utf8) + [0]
        let numbers: [UInt32] = [
            inode, mode, 0, 0, links, 0, byteCount, 0, 0, device.major, device.minor, UInt32(truncatingIfNeeded: nameBytes.count), 0,
        ]
        bytes += Array("070701".utf8)
        for number in numbers {
            let digits = String(number, radix: 16)
            bytes += [UInt8](repeating: UInt8(ascii: "0"), count: 8 - digits.utf8.count) + Array(digits.utf8)
        }
        bytes += nameBytes
        align()
    }

    private mutating func align() {
        while bytes.count % 4 != 0 { bytes.append(0) }
    }
}

extension InitramfsSegment {
    /// The folder of symvmm's files in the initramfs. guest/symmod/symmod.h has the names, too.
    private static let folder = ".symvmm"
    /// The parameter that makes the kernel start the first process.
    static let parameter = "rdinit=/\(folder)/init"

    /// The archive that brings a guest its module.
    package static func bringing(module: [UInt8], firstProcess: [UInt8]) -> [UInt8] {
        var archive = InitramfsSegment()
        archive.add(folder: folder)
        archive.add(folder: "\(folder)/mnt")
        // mem(4), /dev/kmsg: the kernel's log. There is no /dev yet.
        archive.add(device: "\(folder)/kmsg", major: 1, minor: 11)
        archive.add(file: "\(folder)/init", permissions: 0o700, firstProcess)
        archive.add(file: "\(folder)/symbiotic.ko", permissions: 0o600, module)
        return archive.finished()
    }
}
