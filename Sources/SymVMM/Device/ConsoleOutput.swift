// SPDX-License-Identifier: Apache-2.0

/// Where a console's bytes go. A class, not a protocol, because a vCPU's thread calls it in an exit.
open class ConsoleOutput: @unchecked Sendable {
    /// A console whose output is thrown away.
    public init() {}

    /// Takes a byte. May be called on any thread, one at a time. Must not wait for a reader for ever.
    open func write(_ byte: UInt8) {
    }
}
