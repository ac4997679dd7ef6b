// SPDX-License-Identifier: Apache-2.0

import SymVMM

/// Prints the guest's serial port on standard output.
final class TerminalOutput: ConsoleOutput, @unchecked Sendable {
    override func write(_ byte: UInt8) {
        print(Character(Unicode.Scalar(byte)), terminator: "")
    }
}
