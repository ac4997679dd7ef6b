// SPDX-License-Identifier: Apache-2.0

/// What a user asked of symvmm in the middle of the console's input.
package enum ConsoleCommand: Sendable, Equatable {
    /// Leave: end the VM. Ctrl-A x.
    case leave
    /// Show the escapes. Ctrl-A h or Ctrl-A ?.
    case help
}

/// Takes the escapes out of a console's input, byte by byte: Ctrl-A x, Ctrl-A h; Ctrl-A Ctrl-A is one Ctrl-A for the guest.
///
/// Another byte after Ctrl-A is thrown away with it. QEMU's users know these keys.
package struct EscapeFilter: Sendable {
    /// What becomes of a byte.
    package enum Result: Sendable, Equatable {
        /// It goes to the guest.
        case pass(UInt8)
        /// It belongs to an escape that is not yet complete, or to none that is known.
        case swallowed
        /// It completes an escape.
        case command(ConsoleCommand)
    }

    /// The escapes in words, for the help.
    package static let help = "Ctrl-A x  end the VM\r\nCtrl-A h  this help\r\nCtrl-A Ctrl-A  send Ctrl-A to the guest\r\n"

    private static let escape: UInt8 = 0x01
    private var hasEscape = false

    /// A filter that has seen nothing.
    package init() {}

    /// Takes the next byte.
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
