// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import VMMBase

/// A level-triggered interrupt input of the PIC and the IO-APIC (KVM API 4.25 KVM_IRQ_LINE). Any thread. Setting the level is a system call.
final class LevelInterrupt: Sendable {
    private let gsi: UInt32
    /// A duplicate of the VM's descriptor, so that the line can outlive the VM's owner.
    private let machine: OwnedFileDescriptor

    /// Creates a line of a machine.
    init(gsi: UInt32, machine: consuming OwnedFileDescriptor) {
        self.gsi = gsi
        self.machine = consume machine
    }

    /// A line without a VM, for tests of a device.
    init(unconnected gsi: UInt32) {
        self.gsi = gsi
        machine = OwnedFileDescriptor(owning: -1)
    }

    /// Sets the line's level. This fails only without an interrupt controller, which the machine creates before the line.
    func set(high: Bool) {
        _ = ckvm_irq_line(machine.rawValue, gsi, high ? 1 : 0)
    }
}
