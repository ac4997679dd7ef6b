// SPDX-License-Identifier: Apache-2.0

/// Receives the output of the guest's console. A class, not a protocol, because a vCPU's thread calls it in an exit.
open class ConsoleOutput: @unchecked Sendable {
    /// Creates an output that discards all bytes.
    public init() {}

    /// Writes a byte. Any thread, but only one at a time. Must not block without a time limit.
    open func write(_ byte: UInt8) {
    }
}
