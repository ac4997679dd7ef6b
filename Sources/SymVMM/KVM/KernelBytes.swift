// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The bytes of a structure of the kernel's ABI, which KVM returns at a save and accepts at a restore. The layout never changes (KVM API 1).
/// KVM checks the contents; this type checks only the length. `Structure` must consist of plain integers.
struct KernelBytes<Structure>: Sendable, Equatable {
    private let bytes: [UInt8]

    /// Copies a structure's bytes.
    init(_ structure: Structure) {
        // SAFETY: the structure is plain data, and lives for the copy.
        bytes = unsafe withUnsafeBytes(of: structure) { unsafe [UInt8]($0) }
    }

    /// Copies the bytes to `structure`. Throws if their number differs from its size.
    func restore(to structure: inout Structure) throws(VMMError) {
        guard bytes.count == MemoryLayout<Structure>.size else {
            throw .user("\(Structure.self) has \(bytes.count) bytes in the saved state; the kernel's has \(MemoryLayout<Structure>.size)")
        }
        // SAFETY: the length was just checked, and any bytes are a value of a structure of integers.
        unsafe withUnsafeMutableBytes(of: &structure) { unsafe $0.copyBytes(from: bytes) }
    }
}

/// Encoded as hexadecimal digits: shorter than an array of numbers, and readable.
extension KernelBytes: Codable {
    init(from decoder: any Decoder) throws {
        bytes = try HexBytes(from: decoder).bytes
    }

    func encode(to encoder: any Encoder) throws {
        try HexBytes(bytes).encode(to: encoder)
    }
}

/// Bytes that are encoded as hexadecimal digits.
struct HexBytes: Codable, Sendable, Equatable {
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let digits = Array(try container.decode(String.self).utf8)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count - 1, by: 2) {
            guard let high = HexBytes.value(digits[index]), let low = HexBytes.value(digits[index + 1]) else { break }
            bytes.append(high << 4 | low)
        }
        guard bytes.count * 2 == digits.count else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not an even number of hexadecimal digits")
        }
        self.bytes = bytes
    }

    func encode(to encoder: any Encoder) throws {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 2)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 0xf)])
        }
        var container = encoder.singleValueContainer()
        try container.encode(String(decoding: text, as: UTF8.self))
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
