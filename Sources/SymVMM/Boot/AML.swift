// SPDX-License-Identifier: Apache-2.0

/// Encodes the terms of the ACPI Machine Language that the DSDT uses (ACPI 6.5, section 20.2), as bytes.
enum AML {
    /// A name segment: at most four of A-Z, 0-9 and `_`, not beginning with a digit, padded with `_`.
    static func nameSegment(_ name: String) -> [UInt8] {
        Array((Array(name.utf8) + [0x5F, 0x5F, 0x5F, 0x5F]).prefix(4))
    }

    /// The shortest encoding of an integer.
    static func integer(_ value: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        switch value {
        case 0, 1:
            bytes.append(UInt8(value))  // ZeroOp, OneOp
        case ...0xFF:
            bytes += [0x0A, UInt8(value)]
        case ...0xFFFF:
            bytes.append(0x0B)
            bytes.append(littleEndian: UInt16(value))
        case ...0xFFFF_FFFF:
            bytes.append(0x0C)
            bytes.append(littleEndian: UInt32(value))
        default:
            bytes.append(0x0E)
            bytes.append(littleEndian: value)
        }
        return bytes
    }

    /// An ASCII string.
    static func string(_ text: String) -> [UInt8] {
        [0x0D] + Array(text.utf8) + [0]
    }

    /// The compressed form of a plug-and-play identifier like `PNP0501`: three letters of five bits, four hexadecimal digits (19.6.38).
    /// Encodes any other text as a string, which ACPI also allows.
    static func identifier(_ text: String) -> [UInt8] {
        let letters = text.utf8.prefix(3)
        guard text.utf8.count == 7, letters.allSatisfy({ (0x41...0x5A).contains($0) }), let product = UInt32(text.suffix(4), radix: 16)
        else {
            return string(text)
        }
        let vendor = letters.reduce(UInt32(0)) { ($0 << 5) | (UInt32($1) & 0x1F) }
        return integer(UInt64(((vendor << 16) | product).byteSwapped))
    }

    /// `Name (name, value)`.
    static func name(_ name: String, _ value: [UInt8]) -> [UInt8] {
        [0x08] + nameSegment(name) + value
    }

    /// `Package () { elements }`, at most 255 of them.
    static func package(_ elements: [[UInt8]]) -> [UInt8] {
        [0x12] + withLength([UInt8(truncatingIfNeeded: elements.count)] + elements.flatMap { $0 })
    }

    /// `Buffer () { bytes }`.
    static func buffer(_ bytes: [UInt8]) -> [UInt8] {
        [0x11] + withLength(integer(UInt64(bytes.count)) + bytes)
    }

    /// `Scope (\name) { terms }`.
    static func scope(root name: String, _ terms: [[UInt8]]) -> [UInt8] {
        [0x10] + withLength([0x5C] + nameSegment(name) + terms.flatMap { $0 })
    }

    /// `Device (name) { terms }`.
    static func device(_ name: String, _ terms: [[UInt8]]) -> [UInt8] {
        [0x5B, 0x82] + withLength(nameSegment(name) + terms.flatMap { $0 })
    }

    /// `ResourceTemplate () { descriptors }`, with the end tag (6.4.2.9) whose checksum of 0 means "not checked".
    static func resourceTemplate(_ descriptors: [[UInt8]]) -> [UInt8] {
        buffer(descriptors.flatMap { $0 } + [0x79, 0])
    }

    /// `IO (Decode16, …)` (6.4.2.5).
    static func ports(_ first: UInt16, count: UInt8) -> [UInt8] {
        var bytes: [UInt8] = [0x47, 1]
        bytes.append(littleEndian: first)
        bytes.append(littleEndian: first)
        return bytes + [1, count]
    }

    /// `IRQNoFlags () { irq }`: edge, active high, not shared (6.4.2.1). `irq` is 0 to 15.
    static func legacyInterrupt(_ irq: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [0x22]
        bytes.append(littleEndian: UInt16(truncatingIfNeeded: 1 << (irq & 15)))
        return bytes
    }

    /// `Memory32Fixed (ReadWrite, …)` (6.4.3.4).
    static func memory32(_ address: UInt32, byteCount: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [0x86, 9, 0, 1]
        bytes.append(littleEndian: address)
        bytes.append(littleEndian: byteCount)
        return bytes
    }

    /// `Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { gsi }` (6.4.3.6).
    static func interrupt(_ gsi: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [0x89, 6, 0, 0b0011, 1]
        bytes.append(littleEndian: gsi)
        return bytes
    }

    /// Prepends the package length, which includes itself (20.2.4): one byte up to 63, else a nibble and one to three bytes.
    static func withLength(_ content: [UInt8]) -> [UInt8] {
        if content.count + 1 <= 0x3F { return [UInt8(content.count + 1)] + content }
        var following = 1
        while following < 3, content.count + 1 + following >= 1 << (4 + 8 * following) { following += 1 }
        let length = content.count + 1 + following
        var bytes = [UInt8(following << 6 | length & 0xF)]
        for index in 0..<following { bytes.append(UInt8(truncatingIfNeeded: length >> (4 + 8 * index))) }
        return bytes + content
    }
}
