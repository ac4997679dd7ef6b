// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// What the guest rings to say that a queue has new buffers: an eventfd that KVM signals without an exit, or the transport after one.
public final class QueueNotifier: Sendable {
    private let notifier: EventNotifier

    init() throws(KVMError) {
        notifier = try EventNotifier()
    }

    /// The descriptor to poll. Format when rung.
    public var descriptor: Int32 {
        notifier.descriptor.rawValue
    }

    /// Rings.
    public func ring() {
        notifier.signal()
    }

    /// Waits until it is rung, then silences it. May return early when a signal interrupts.
    public func wait() {
        notifier.drain()
    }

    /// Lets KVM ring on a guest's write of `value` to an MMIO address.
    func attach(to machine: borrowing KVMVirtualMachine, at gpa: UInt64, value: UInt32) throws(KVMError) {
        try machine.attach(notifier, toDoorbellAt: gpa, value: value)
    }
}

/// How a virtio device speaks to its driver: the interrupt status register and the interrupt (virtio 1.2, section 4.2.2).
///
/// Any thread may call; atomics only, so that a worker never waits for a vCPU.
public final class VirtioInterrupt: Sendable {
    private let line: InterruptLine
    private let pending = Atomic<UInt32>(0)
    private let generation = Atomic<UInt32>(0)
    private let resetWanted = Atomic<Bool>(false)
    private let faults = Atomic<UInt64>(0)
    private let raised = Atomic<UInt64>(0)

    init(line: InterruptLine) {
        self.line = line
    }

    /// A queue has used buffers.
    func buffersUsed() {
        raise(1)
    }

    /// The configuration space has changed: the guest reads it again.
    public func configurationChanged() {
        generation.wrappingAdd(1, ordering: .acquiringAndReleasing)
        raise(2)
    }

    /// The device cannot go on until the guest resets it (virtio 1.2, section 2.1.2).
    func requireReset() {
        faults.wrappingAdd(1, ordering: .relaxed)
        resetWanted.store(true, ordering: .releasing)
        raise(2)
    }

    /// Value of the InterruptStatus register.
    var status: UInt32 {
        pending.load(ordering: .acquiring)
    }

    /// Value of the ConfigGeneration register.
    var configurationGeneration: UInt32 {
        generation.load(ordering: .acquiring)
    }

    /// Whether DEVICE_NEEDS_RESET is to be seen.
    var isResetWanted: Bool {
        resetWanted.load(ordering: .acquiring)
    }

    /// How often a queue or an activation failed.
    var faultCount: UInt64 {
        faults.load(ordering: .relaxed)
    }

    /// Interrupts raised.
    var raisedCount: UInt64 {
        raised.load(ordering: .relaxed)
    }

    /// The guest has handled these causes.
    func acknowledge(_ causes: UInt32) {
        pending.bitwiseAnd(~causes, ordering: .acquiringAndReleasing)
    }

    /// The device is as new. Nobody raises meanwhile: it was stopped.
    func clear() {
        pending.store(0, ordering: .releasing)
        resetWanted.store(false, ordering: .releasing)
    }

    private func raise(_ cause: UInt32) {
        pending.bitwiseOr(cause, ordering: .acquiringAndReleasing)
        raised.wrappingAdd(1, ordering: .relaxed)
        line.trigger()
    }
}
