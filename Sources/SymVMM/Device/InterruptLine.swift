// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// An edge-triggered interrupt of the guest, raised through the kernel's irqfd without an exit. Any thread may raise it.
final class InterruptLine: Sendable {
    /// Global system interrupt number: the input of the IO-APIC, 0 to 23.
    let gsi: UInt32
    private let notifier: EventNotifier

    /// Connects a new line to the machine's interrupt controller.
    init(gsi: UInt32, machine: borrowing KVMVirtualMachine) throws(KVMError) {
        self.gsi = gsi
        notifier = try EventNotifier()
        try machine.attach(notifier, toInterrupt: gsi)
    }

    /// A line that nobody listens to, for tests of a device without a VM: `pending` tells whether it was raised.
    init(unconnected gsi: UInt32) throws(KVMError) {
        self.gsi = gsi
        notifier = try EventNotifier(nonblocking: true)
    }

    /// Raises the interrupt once.
    func trigger() {
        notifier.signal()
    }

    /// Of an unconnected line: how often it was raised since the last call.
    func takePending() -> UInt64 {
        notifier.drain()
    }
}
