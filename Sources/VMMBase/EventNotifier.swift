// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// An eventfd(2): a kernel counter that one side increments and the other waits for. KVM uses it as ioeventfd (doorbells) and irqfd (interrupts).
///
/// Thread-safe.
package struct EventNotifier: ~Copyable, Sendable {
    /// The owned descriptor.
    package let descriptor: OwnedFileDescriptor

    /// Creates a counter at zero. With `nonblocking`, `drain()` returns at once if it is zero.
    package init(nonblocking: Bool = false) throws(VMMError) {
        let number = try VMMError.check(ckvm_eventfd(nonblocking), "eventfd", advice: "raise the limit of open files (ulimit -n)")
        descriptor = OwnedFileDescriptor(owning: number)
    }

    /// Increments the counter. It would block only at 2^64 - 2.
    package func signal() {
        var one: UInt64 = 1
        // SAFETY: the variable outlives the call and has the eight bytes that eventfd(2) reads.
        _ = unsafe write(descriptor.rawValue, &one, MemoryLayout<UInt64>.size)
    }

    /// Resets the counter and returns its value. Waits for a signal first, unless nonblocking. Returns 0 if interrupted or if there is no signal.
    @discardableResult
    package func drain() -> UInt64 {
        var count: UInt64 = 0
        // SAFETY: the variable outlives the call and has the eight bytes that eventfd(2) writes.
        let bytes = unsafe read(descriptor.rawValue, &count, MemoryLayout<UInt64>.size)
        return bytes == MemoryLayout<UInt64>.size ? count : 0
    }
}
