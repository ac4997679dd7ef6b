// SPDX-License-Identifier: Apache-2.0

/// The devices that every machine has, on their buses, and room for more.
struct MachineBuses {
    /// Guest-physical start of the virtio devices' registers: one page each, in the hole below 4 GiB.
    static let mmioBase: UInt64 = 0xd000_0000
    /// Bytes from one device's registers to the next one's.
    static let mmioStride: UInt64 = 0x1000
    /// Interrupts for virtio devices: first the IO-APIC's inputs that no PC device ever had, then those whose PC device is not there.
    static let freeInterrupts: [UInt32] = Array(16...23) + [5, 6, 7, 10, 11, 12, 14, 15]

    var ports = PortBus()
    var mmio = MMIOBus()
    let serial: Serial8250
    let powerManagement: PowerManagement
    private var mmioDeviceCount = 0

    init(machine: borrowing VirtualMachineHandle, console: ConsoleOutput) throws(KVMError) {
        let serialInterrupt = try InterruptLine(gsi: Serial8250.interruptNumber, machine: machine)
        serial = try Serial8250(interrupt: serialInterrupt, output: console)
        let sci = LevelInterrupt(gsi: PowerManagement.interruptNumber, machine: try machine.duplicateDescriptor())
        powerManagement = PowerManagement(interrupt: sci)
        // These ranges do not overlap, so no attachment is refused.
        _ = ports.attach(serial, base: Serial8250.basePort, count: Serial8250.portCount)
        _ = ports.attach(CMOSClock(), base: CMOSClock.basePort, count: CMOSClock.portCount)
        _ = ports.attach(ResetController(), base: ResetController.basePort, count: ResetController.portCount)
        _ = ports.attach(powerManagement, base: PowerManagement.basePort, count: PowerManagement.portCount)
    }

    /// Where a device's registers and interrupt are.
    struct Place {
        let base: UInt64
        let gsi: UInt32
    }

    /// The next free place for a virtio device, or nil when the interrupts are used up.
    mutating func takePlace() -> Place? {
        guard mmioDeviceCount < MachineBuses.freeInterrupts.count else { return nil }
        let index = mmioDeviceCount
        mmioDeviceCount += 1
        return Place(base: MachineBuses.mmioBase + UInt64(index) * MachineBuses.mmioStride, gsi: MachineBuses.freeInterrupts[index])
    }
}
