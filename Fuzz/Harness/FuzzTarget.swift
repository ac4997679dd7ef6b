// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Runs one input. Throws only if the target itself is broken: whatever symvmm refuses is caught by the target.
typealias FuzzBody = (inout FuzzInput) throws -> Void

/// Something that reads what others have written: a guest, a client, a file.
struct FuzzTarget: Sendable {
    let name: String
    /// What it tests, in one line.
    let summary: String
    /// Longest input in bytes.
    var maximumLength = 4096
    /// File in `Fuzz/Dictionaries`, if the input is a text.
    var dictionary: String?
    /// Inputs to begin with, beside the files in `Fuzz/Seeds`.
    var seeds: @Sendable () throws -> [[UInt8]] = { [] }
    /// Makes what all inputs of a process share.
    let prepare: @Sendable () throws -> FuzzBody
}

/// Ends the process with a message if the condition is false. libFuzzer then keeps the input.
func expect(
    _ condition: Bool, _ message: @autoclosure () -> String = "", file: StaticString = #fileID, line: UInt = #line
) {
    if condition { return }
    broken(message(), file: file, line: line)
}

/// Ends the process: something is not as it must be.
func broken(_ message: String, file: StaticString = #fileID, line: UInt = #line) -> Never {
    let text = "symvmm-fuzz: \(file):\(line): \(message)\n"
    _ = text.withCString { write(2, $0, strlen($0)) }
    abort()
}
