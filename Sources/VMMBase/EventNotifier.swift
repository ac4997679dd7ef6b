// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// An eventfd(2): a counter in the kernel that one side raises and the other waits for. It carries doorbells (ioeventfd) and interrupts (irqfd).
///
/// Any thread may signal, wait or drain.
public struct EventNotifier: ~Copyable, Sendable {
    /// The owned descriptor.
    public let descriptor: FileDescriptor

    /// Makes a counter at zero. With `nonblocking`, `drain()` on a zero counter returns at once.
    public init(nonblocking: Bool = false) throws(KVMError) {
        let number = try KVMError.check(ckvm_eventfd(nonblocking), "eventfd", advice: "raise the limit of open files (ulimit -n)")
        descriptor = FileDescriptor(owning: number)
    }

    /// Adds one to the counter. Never blocks in practice: the counter would have to reach 2^64 - 2.
    public func signal() {
        var one: UInt64 = 1
        // SAFETY: the variable outlives the call and has the eight bytes that eventfd(2) reads.
        _ = unsafe write(descriptor.rawValue, &one, MemoryLayout<UInt64>.size)
    }

    /// Sets the counter to zero and returns what it was; waits for a signal first unless made nonblocking. 0 when interrupted or nothing there.
    @discardableResult
    public func drain() -> UInt64 {
        var count: UInt64 = 0
        // SAFETY: the variable outlives the call and has the eight bytes that eventfd(2) writes.
        let bytes = unsafe read(descriptor.rawValue, &count, MemoryLayout<UInt64>.size)
        return bytes == MemoryLayout<UInt64>.size ? count : 0
    }
}
