// SPDX-License-Identifier: Apache-2.0

/// A hash that tells versions of the module's source apart: FNV-1a, 64 bits. It protects nothing: who may write to the store is checked elsewhere.
package struct SourceHash {
    private var value: UInt64 = 0xcbf2_9ce4_8422_2325

    /// The hash of nothing.
    package init() {}

    /// Adds bytes, and their number, so that no part can move from one file to the next unseen.
    package mutating func add(_ bytes: some Collection<UInt8>) {
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for shift in stride(from: 0, to: 64, by: 8) {
            value = (value ^ (UInt64(bytes.count) >> UInt64(shift) & 0xFF)) &* 0x100_0000_01b3
        }
    }

    /// 16 hexadecimal digits.
    package var text: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
