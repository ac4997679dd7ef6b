// SPDX-License-Identifier: Apache-2.0

/// An input of the fuzzer as a stream of decisions. It never ends: after the last byte it yields zeroes.
struct FuzzInput {
    private var bytes: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) {
        self.bytes = bytes[...]
    }

    /// Whether all bytes have been used. Loops end here.
    var isEmpty: Bool { bytes.isEmpty }

    mutating func byte() -> UInt8 {
        bytes.popFirst() ?? 0
    }

    mutating func flag() -> Bool {
        byte() & 1 != 0
    }

    mutating func word() -> UInt16 {
        UInt16(byte()) | UInt16(byte()) << 8
    }

    mutating func long() -> UInt32 {
        UInt32(word()) | UInt32(word()) << 16
    }

    mutating func quad() -> UInt64 {
        UInt64(long()) | UInt64(long()) << 32
    }

    /// A number from 0 to `limit` - 1; `limit` is at least 1 and at most 65,536.
    mutating func number(below limit: Int) -> Int {
        limit <= 256 ? Int(byte()) % limit : Int(word()) % limit
    }

    mutating func pick<Value>(_ choices: [Value]) -> Value {
        choices[number(below: choices.count)]
    }

    /// At most `count` bytes.
    mutating func take(_ count: Int) -> [UInt8] {
        defer { bytes = bytes.dropFirst(count) }
        return Array(bytes.prefix(count))
    }

    /// Bytes with a length in front, at most `limit`.
    mutating func chunk(atMost limit: Int) -> [UInt8] {
        take(number(below: limit + 1))
    }

    /// All bytes that are left.
    mutating func rest() -> [UInt8] {
        take(bytes.count)
    }

    /// Bytes as text; what is not UTF-8 is replaced, as in everything that symvmm reads.
    mutating func text(atMost limit: Int) -> String {
        String(decoding: chunk(atMost: limit), as: UTF8.self)
    }

    /// A number at an edge or anywhere: small, near a power of two, near the maximum, or any.
    mutating func edge() -> UInt64 {
        switch byte() % 6 {
        case 0: return UInt64(byte())
        case 1:
            let power = UInt64(1) << UInt64(byte() % 64)
            return power &+ UInt64(byte()) &- 128
        case 2: return 0 &- UInt64(byte())
        case 3: return UInt64(word()) << 12
        case 4: return UInt64(long())
        default: return quad()
        }
    }
}
