// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

/// Files for the tests of SymMod.
enum SymModFiles {
    static let release = "6.1.0-57-cloud-amd64"

    /// A bzImage of this release. It has nothing to run.
    static func kernel(_ release: String = release) -> [UInt8] {
        var bytes = SyntheticKernel.bzImage()
        bytes.store(UInt16(0x100), at: 0x20E)
        for (index, byte) in "\(release) (builder)\0".utf8.enumerated() { bytes[0x300 + index] = byte }
        return bytes
    }

    /// An ELF object with a section .modinfo, as the kernel's build makes it.
    static func module(name: String = "symbiotic", release: String = release) -> [UInt8] {
        let information = Array("license=GPL\0name=\(name)\0vermagic=\(release) SMP preempt mod_unload modversions \0".utf8)
        let names = Array("\0.shstrtab\0.modinfo\0".utf8)
        var bytes = [UInt8](repeating: 0, count: 64)
        bytes.replaceSubrange(0..<7, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1])
        bytes.store(UInt16(1), at: 16)
        bytes.store(UInt16(62), at: 18)
        bytes.store(UInt64(64 + information.count + names.count), at: 40)
        bytes.store(UInt16(64), at: 58)
        bytes.store(UInt16(3), at: 60)
        bytes.store(UInt16(1), at: 62)
        bytes += information + names
        let table = bytes.count
        bytes += [UInt8](repeating: 0, count: 3 * 64)
        func section(_ index: Int, name: Int, offset: Int, count: Int) {
            bytes.store(UInt32(name), at: table + index * 64)
            bytes.store(UInt64(offset), at: table + index * 64 + 24)
            bytes.store(UInt64(count), at: table + index * 64 + 32)
        }
        section(1, name: 1, offset: 64 + information.count, count: names.count)
        section(2, name: 11, offset: 64, count: information.count)
        return bytes
    }
}
