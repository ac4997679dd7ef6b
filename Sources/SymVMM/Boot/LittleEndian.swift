// SPDX-License-Identifier: Apache-2.0

extension Array where Element == UInt8 {
    /// The little-endian integer at an offset, or nil if it does not lie in the array.
    func littleEndian<Value: FixedWidthInteger>(at offset: Int, as type: Value.Type = Value.self) -> Value? {
        let size = Value.bitWidth / 8
        guard offset >= 0, offset <= count, size <= count - offset else { return nil }
        return (0..<size).reversed().reduce(Value(0)) { ($0 << 8) | Value(truncatingIfNeeded: self[offset + $1]) }
    }

    /// Stores an integer at an offset, little-endian. Does nothing if it does not fit; the callers' offsets are constants.
    mutating func store<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        let size = Value.bitWidth / 8
        guard offset >= 0, offset <= count, size <= count - offset else { return }
        for index in 0..<size { self[offset + index] = UInt8(truncatingIfNeeded: value >> Value(8 * index)) }
    }

    /// Appends an integer, little-endian.
    mutating func append<Value: FixedWidthInteger>(littleEndian value: Value) {
        for index in 0..<(Value.bitWidth / 8) { append(UInt8(truncatingIfNeeded: value >> Value(truncatingIfNeeded: 8 * index))) }
    }
}
