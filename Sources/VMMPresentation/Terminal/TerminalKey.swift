// SPDX-License-Identifier: Apache-2.0

/// A key read from a terminal in raw mode.
package enum TerminalKey: Sendable, Equatable {
    /// A printable ASCII character.
    case character(Character)
    /// Arrows.
    case up, down, left, right
    /// Return.
    case enter
    /// Escape, or an unknown escape sequence.
    case escape
    /// Ctrl-C.
    case interrupt
    /// Ctrl-Z.
    case suspend

    /// Parses the keys in one read. Ignores unknown bytes.
    package static func parse(_ bytes: [UInt8]) -> [TerminalKey] {
        var keys: [TerminalKey] = []
        var rest = bytes[...]
        while let byte = rest.popFirst() {
            switch byte {
            case 0x03: keys.append(.interrupt)
            case 0x1a: keys.append(.suspend)
            case 0x0a, 0x0d: keys.append(.enter)
            case 0x1b: keys.append(sequence(&rest))
            case 0x20..<0x7f: keys.append(.character(Character(Unicode.Scalar(byte))))
            default: break
            }
        }
        return keys
    }

    /// Parses an escape sequence: `[A`, `OA` and so on (ECMA-48, 5.4: parameters, then a final byte).
    private static func sequence(_ rest: inout ArraySlice<UInt8>) -> TerminalKey {
        guard rest.first == UInt8(ascii: "[") || rest.first == UInt8(ascii: "O") else { return .escape }
        rest.removeFirst()
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "A"): return .up
            case UInt8(ascii: "B"): return .down
            case UInt8(ascii: "C"): return .right
            case UInt8(ascii: "D"): return .left
            case 0x40..<0x7f: return .escape
            default: break
            }
        }
        return .escape
    }
}
