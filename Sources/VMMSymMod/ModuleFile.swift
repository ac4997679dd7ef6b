// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import SymVMM

/// The file of a kernel module: what its section .modinfo says. The file is untrusted.
package struct ModuleFile {
    /// Longest module that symvmm takes: 16 MiB. Without debug information it has 0.2 MiB.
    package static let limit = 16 << 20

    /// The module's name.
    package let name: String
    /// The release of the kernel that it was built for: the first word of `vermagic`.
    package let release: String

    /// Reads the header of an ELF file for x86-64.
    ///
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - path: its name in errors.
    package init(_ bytes: [UInt8], path: String) throws(VMMError) {
        guard bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]), ModuleFile.number(bytes, 16, 2) == 1,
            ModuleFile.number(bytes, 18, 2) == 62
        else { throw .host("\(path): not a kernel module for x86-64") }
        guard let information = ModuleFile.section(".modinfo", bytes) else { throw .host("\(path): damaged: it has no section .modinfo") }
        let fields = information.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        func value(_ key: String) -> String? {
            fields.first { $0.hasPrefix("\(key)=") }.map { String($0.dropFirst(key.utf8.count + 1)) }
        }
        guard let name = value("name"), let release = value("vermagic")?.split(separator: " ").first.map({ String($0) }),
            KernelRelease.isRelease(release)
        else { throw .host("\(path): damaged: its section .modinfo names no module and no kernel") }
        self.name = name
        self.release = release
    }

    /// A little-endian number, or nil if it does not lie in the file.
    private static func number(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> Int? {
        guard offset >= 0, offset <= bytes.count, size <= bytes.count - offset else { return nil }
        let value = (0..<size).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(bytes[offset + $1]) }
        return Int(exactly: value)
    }

    /// A part of the file, or nil if it does not lie in it.
    private static func part(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> ArraySlice<UInt8>? {
        guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else { return nil }
        return bytes[offset..<(offset + count)]
    }

    private static func section(_ name: String, _ bytes: [UInt8]) -> ArraySlice<UInt8>? {
        let headerByteCount = 64
        guard let table = number(bytes, 40, 8), number(bytes, 58, 2) == headerByteCount, let count = number(bytes, 60, 2),
            let names = number(bytes, 62, 2), names < count, part(bytes, table, count * headerByteCount) != nil
        else { return nil }
        func contents(_ index: Int) -> ArraySlice<UInt8>? {
            let header = table + index * headerByteCount
            guard let offset = number(bytes, header + 24, 8), let size = number(bytes, header + 32, 8) else { return nil }
            return part(bytes, offset, size)
        }
        guard let text = contents(names) else { return nil }
        for index in 0..<count {
            guard let offset = number(bytes, table + index * headerByteCount, 4), offset < text.count else { continue }
            if text.dropFirst(offset).starts(with: Array(name.utf8) + [0]) { return contents(index) }
        }
        return nil
    }
}
