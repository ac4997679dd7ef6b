// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The eventfd that signals new buffers in a queue. KVM signals it without an exit, or the transport does after an exit.
public final class QueueNotifier: Sendable {
    private let notifier: EventNotifier

    init() throws(VMMError) {
        notifier = try EventNotifier()
    }

    /// The descriptor to poll: readable after a ring.
    public var descriptor: Int32 {
        notifier.descriptor.rawValue
    }

    /// Signals the eventfd.
    public func ring() {
        notifier.signal()
    }

    /// Waits for a ring, then resets the eventfd. May return early if a signal interrupts.
    public func wait() {
        notifier.drain()
    }

    /// Makes KVM ring when the guest writes `value` to an MMIO address (ioeventfd).
    func attach(to machine: borrowing KVMVirtualMachine, at gpa: UInt64, value: UInt32) throws(VMMError) {
        try machine.attach(notifier, toDoorbellAt: gpa, value: value)
    }
}
