// SPDX-License-Identifier: Apache-2.0

/// A command in the console input.
package enum ConsoleCommand: Sendable, Equatable {
    /// Kill the VM: Ctrl-A x.
    case leave
    /// Show the escapes: Ctrl-A h or Ctrl-A ?.
    case help
}

/// Extracts escapes from console input: Ctrl-A x, Ctrl-A h; Ctrl-A Ctrl-A sends one Ctrl-A to the guest.
///
/// Drops any other byte after Ctrl-A, as QEMU does.
package struct EscapeFilter: Sendable {
    /// The result for a byte.
    package enum Result: Sendable, Equatable {
        /// Pass the byte to the guest.
        case pass(UInt8)
        /// The byte is part of an incomplete or unknown escape.
        case swallowed
        /// The byte completes an escape.
        case command(ConsoleCommand)
    }

    /// Help text for the escapes.
    package static let help = "Ctrl-A x  kill the VM\r\nCtrl-A h  this help\r\nCtrl-A Ctrl-A  send Ctrl-A to the guest\r\n"

    private static let escape: UInt8 = 0x01
    private var hasEscape = false

    /// Creates a filter.
    package init() {}

    /// Handles the next byte.
    package mutating func take(_ byte: UInt8) -> Result {
        guard hasEscape else {
            hasEscape = byte == EscapeFilter.escape
            return hasEscape ? .swallowed : .pass(byte)
        }
        hasEscape = false
        switch byte {
        case EscapeFilter.escape: return .pass(byte)
        case UInt8(ascii: "x"), UInt8(ascii: "X"): return .command(.leave)
        case UInt8(ascii: "h"), UInt8(ascii: "H"), UInt8(ascii: "?"): return .command(.help)
        default: return .swallowed
        }
    }
}
