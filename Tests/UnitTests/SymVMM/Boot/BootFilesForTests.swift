// SPDX-License-Identifier: Apache-2.0

@testable import SymVMM
import Glibc

@testable import VMMBase

/// A temporary file. Deinit removes it.
final class TemporaryFile {
    let path: String
    private let descriptor: OwnedFileDescriptor

    init(_ bytes: [UInt8]) throws {
        var template = Array("/tmp/symvmm-boot-XXXXXX".utf8CString)
        // SAFETY: the array ends with a zero byte, and mkstemp(3) replaces the six letters in place.
        descriptor = OwnedFileDescriptor(owning: unsafe mkstemp(&template))
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard descriptor.rawValue >= 0 else { throw VMMError.last("mkstemp") }
        try rewrite(bytes)
    }

    func rewrite(_ bytes: [UInt8]) throws {
        guard ftruncate(descriptor.rawValue, 0) == 0 else { throw VMMError.last("ftruncate") }
        // SAFETY: the array has `bytes.count` bytes.
        guard unsafe pwrite(descriptor.rawValue, bytes, bytes.count, 0) == bytes.count else { throw VMMError.last("pwrite") }
    }

    func truncate(_ byteCount: Int) throws {
        guard ftruncate(descriptor.rawValue, byteCount) == 0 else { throw VMMError.last("ftruncate") }
    }

    deinit {
        // SAFETY: the string lives for the call.
        unsafe unlink(path)
    }
}

/// Kernels for tests: every header field is valid, and the code is a pattern.
enum SyntheticKernel {
    /// The load address in the bzImage's header.
    static let address: UInt64 = 0x10_0000
    static let pattern = (0..<0x410).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) }

    /// A bzImage with one setup sector: 1,024 bytes, then `pattern`.
    static func bzImage() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024) + pattern
        bytes.store(UInt16(0x5A4D), at: 0)
        bytes.store(UInt8(1), at: 0x1F1)
        bytes.store(UInt32(pattern.count / 16), at: 0x1F4)
        bytes.store(UInt16(0xAA55), at: 0x1FE)
        bytes.store(UInt16(0x6AEB), at: 0x200)
        bytes.store(UInt32(0x5372_6448), at: 0x202)
        bytes.store(UInt16(0x020F), at: 0x206)
        bytes.store(UInt8(1), at: 0x211)
        bytes.store(UInt32(0x7FFF_FFFF), at: 0x22C)
        bytes.store(UInt32(0x10_0000), at: 0x230)
        bytes.store(UInt16(0x7F), at: 0x236)
        bytes.store(UInt32(255), at: 0x238)
        bytes.store(UInt64(0x1122_3344_5566_7788), at: 0x250)  // setup_data: the loader clears it
        bytes.store(address, at: 0x258)
        bytes.store(UInt32(0x8000), at: 0x260)
        return bytes
    }

    struct Segment {
        var physical: UInt64 = 0x10_0000
        var virtual: UInt64 = 0x10_0000
        var bytes: [UInt8] = Array(pattern.prefix(64))
        var memoryByteCount: UInt64 = 0x2000
    }

    /// An ELF64 executable for x86-64.
    static func elf(entry: UInt64 = 0x10_0010, segments: [Segment] = [Segment()]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 64 + 56 * segments.count)
        bytes.replaceSubrange(0..<7, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1])
        bytes.store(UInt16(2), at: 16)
        bytes.store(UInt16(62), at: 18)
        bytes.store(UInt32(1), at: 20)
        bytes.store(entry, at: 24)
        bytes.store(UInt64(64), at: 32)
        bytes.store(UInt16(64), at: 52)
        bytes.store(UInt16(56), at: 54)
        bytes.store(UInt16(segments.count), at: 56)
        for (index, segment) in segments.enumerated() {
            let header = 64 + 56 * index
            bytes.store(UInt32(1), at: header)
            bytes.store(UInt32(7), at: header + 4)
            bytes.store(UInt64(bytes.count), at: header + 8)
            bytes.store(segment.virtual, at: header + 16)
            bytes.store(segment.physical, at: header + 24)
            bytes.store(UInt64(segment.bytes.count), at: header + 32)
            bytes.store(segment.memoryByteCount, at: header + 40)
            bytes += segment.bytes
        }
        return bytes
    }

    /// A copy of the bytes with one integer changed.
    static func changed<Value: FixedWidthInteger>(_ bytes: [UInt8], _ value: Value, at offset: Int) -> [UInt8] {
        var bytes = bytes
        bytes.store(value, at: offset)
        return bytes
    }
}
