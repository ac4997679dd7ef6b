// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import VMMBase

/// A level-triggered interrupt input of the PIC and the IO-APIC (KVM API 4.25 KVM_IRQ_LINE). Any thread may set it; a system call.
final class LevelInterrupt: Sendable {
    private let gsi: UInt32
    /// A duplicate of the VM's descriptor, so that the line may outlive its maker.
    private let machine: FileDescriptor

    /// A line of a machine.
    init(gsi: UInt32, machine: consuming FileDescriptor) {
        self.gsi = gsi
        self.machine = consume machine
    }

    /// A line that nobody listens to, for tests of a device without a VM.
    init(unconnected gsi: UInt32) {
        self.gsi = gsi
        machine = FileDescriptor(owning: -1)
    }

    /// Sets the line's level. It fails only when there is no interrupt controller, which the machine has made before the line.
    func set(high: Bool) {
        _ = ckvm_irq_line(machine.rawValue, gsi, high ? 1 : 0)
    }
}
