// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// Headers of disk images that are not raw. A guest that got such a file as a raw disk would see the image's own structure instead of its contents, and
/// would destroy it by writing.
///
/// Only recognised and refused: what a guest writes to its raw disk must not decide how the VMM reads it.
enum DiskImageHeader {
    /// The name of the format that a file has by its first bytes or its last sector; nil for a raw image.
    ///
    /// - Parameters:
    ///   - descriptor: the file, open for reading.
    ///   - byteCount: its length.
    static func format(of descriptor: borrowing OwnedFileDescriptor, byteCount: UInt64) -> String? {
        let head = read(descriptor, at: 0, 512)
        for (name, offset, mark) in marks where head.dropFirst(offset).starts(with: mark) { return name }
        // A VHD of fixed size has its header at its end.
        guard byteCount >= 512, read(descriptor, at: byteCount - 512, 512).starts(with: vhd) else { return nil }
        return "VHD"
    }

    private static let vhd = [UInt8]("conectix".utf8)

    /// Names, offsets and marks, from the formats' specifications.
    private static let marks: [(name: String, offset: Int, mark: [UInt8])] = [
        ("qcow2", 0, [0x51, 0x46, 0x49, 0xfb]),
        ("VHD", 0, vhd),
        ("VHDX", 0, [UInt8]("vhdxfile".utf8)),
        ("VMDK", 0, [UInt8]("KDMV".utf8)),
        ("VMDK", 0, [UInt8]("COWD".utf8)),
        ("VMDK", 0, [UInt8]("# Disk DescriptorFile".utf8)),
        ("QED", 0, [0x51, 0x45, 0x44, 0x00]),
        ("VDI", 64, [0x7f, 0x10, 0xda, 0xbe]),
    ]

    /// Fewer bytes at the end of the file; none if it cannot be read, which the disk's own requests report.
    private static func read(_ descriptor: borrowing OwnedFileDescriptor, at offset: UInt64, _ count: Int) -> [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            // SAFETY: the buffer has this many bytes, and only what was read counts as filled.
            filled = max(0, unsafe pread(descriptor.rawValue, buffer.baseAddress, count, off_t(clamping: offset)))
        }
    }
}
