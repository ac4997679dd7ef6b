// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// An edge-triggered interrupt of the guest, raised through an irqfd. Any thread.
final class InterruptLine: Sendable {
    /// Global system interrupt number: the input of the IO-APIC, 0 to 23.
    let gsi: UInt32
    private let notifier: EventNotifier

    /// Connects a new line to the machine's interrupt controller.
    init(gsi: UInt32, machine: borrowing KVMVirtualMachine) throws(VMMError) {
        self.gsi = gsi
        notifier = try EventNotifier()
        try machine.attach(notifier, toInterrupt: gsi)
    }

    /// A line without a VM, for tests of a device: `takePending()` returns how often it was raised.
    init(unconnected gsi: UInt32) throws(VMMError) {
        self.gsi = gsi
        notifier = try EventNotifier(nonblocking: true)
    }

    /// Raises the interrupt once.
    func trigger() {
        notifier.signal()
    }

    /// How often an unconnected line was raised since the last call.
    func takePending() -> UInt64 {
        notifier.drain()
    }
}
