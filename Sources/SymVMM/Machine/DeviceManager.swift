// SPDX-License-Identifier: Apache-2.0

internal import VMMBase
internal import VMMModel

/// A machine's devices and the buses that they are attached to. One allocator assigns addresses and interrupts.
struct DeviceManager {
    /// Allocates ports, MMIO addresses, interrupts, memory slots and windows.
    var resources: ResourceAllocator
    var ports = PIOBus()
    var mmio = MMIOBus()
    let serial: Serial8250
    let powerManagement: PowerManagement
    /// Nil if the machine has none.
    let keyboard: KeyboardController?
    /// The virtio devices, in the order in which the guest finds them.
    private(set) var virtio: [VirtioTransport] = []
    /// Their addresses and interrupts, for the ACPI tables.
    private(set) var virtioDescriptions: [ACPIDescription.MMIODevice] = []
    /// Serves the devices without threads of their own.
    let ioThread: IOThread

    /// Makes the devices that every machine has, and a keyboard if it shall have one.
    init(
        machine: borrowing KVMVirtualMachine, console: ConsoleOutput, resources: ResourceAllocator, hasKeyboard: Bool = false
    ) throws(VMMError) {
        self.resources = resources
        let serialInterrupt = try InterruptLine(gsi: Serial8250.interruptNumber, machine: machine)
        serial = try Serial8250(interrupt: serialInterrupt, output: console)
        let sci = LevelInterrupt(gsi: PowerManagement.interruptNumber, machine: try machine.duplicateDescriptor())
        powerManagement = PowerManagement(interrupt: sci)
        keyboard =
            hasKeyboard
            ? KeyboardController(interrupt: try InterruptLine(gsi: KeyboardController.interruptNumber, machine: machine)) : nil
        ioThread = try IOThread()
        try attach(serial, base: Serial8250.basePort, count: Serial8250.portCount, gsi: Serial8250.interruptNumber)
        try attach(CMOSClock(), base: CMOSClock.basePort, count: CMOSClock.portCount)
        if let keyboard {
            try attach(
                keyboard, base: KeyboardController.basePort, count: KeyboardController.portCount, gsi: KeyboardController.interruptNumber)
        } else {
            try attach(ResetController(), base: ResetController.basePort, count: ResetController.portCount)
        }
        try attach(ResetControlRegister(), base: ResetControlRegister.basePort, count: ResetControlRegister.portCount)
        try attach(
            powerManagement, base: PowerManagement.basePort, count: PowerManagement.portCount, gsi: PowerManagement.interruptNumber)
    }

    /// Attaches a legacy device at its standard ports and interrupt.
    mutating func attach(_ device: BusDevice, base: UInt16, count: Int, gsi: UInt32? = nil) throws(VMMError) {
        try resources.takePorts(Int(base)..<Int(base) + count, for: device.name)
        if let gsi { try resources.takeInterrupt(gsi, for: device.name) }
        guard ports.attach(device, base: base, count: count) else {
            throw VMMError(.bug, "\(device.name): ports from 0x\(String(base, radix: 16)) are taken")
        }
    }

    /// Attaches the virtio devices of the configuration.
    mutating func attachVirtioDevices(
        _ configuration: MachineConfiguration, _ memory: GuestMemory, _ machine: borrowing KVMVirtualMachine,
        responder: FrameResponder.Maker = { _ in nil }
    ) throws(VMMError) {
        for factory in VirtioDeviceFactory.all {
            for device in try factory.make(configuration, ioThread, responder) { try attach(device, memory, machine) }
        }
    }

    /// Attaches a virtio device at the next free address and interrupt.
    mutating func attach(_ device: VirtioDevice, _ memory: GuestMemory, _ machine: borrowing KVMVirtualMachine) throws(VMMError) {
        let gsi = try resources.allocateInterrupt(for: device.name)
        let byteCount = VirtioMMIOTransport.byteCount
        let base = try resources.allocateMMIO(byteCount: byteCount, for: device.name)
        do throws(VMMError) {
            let transport = try VirtioMMIOTransport(
                device: device, memory: memory, interrupt: try InterruptLine(gsi: gsi, machine: machine))
            try transport.attach(to: machine, at: base)
            guard mmio.attach(transport, base: base, byteCount: byteCount) else {
                throw VMMError(.bug, "0x\(String(base, radix: 16)) is taken")
            }
            virtio.append(transport)
            virtioDescriptions.append(ACPIDescription.MMIODevice(gpa: base, byteCount: byteCount, gsi: gsi))
        } catch {
            throw error.of(device.name, .host)
        }
    }

    /// Attaches the symbiotic interface's ports.
    mutating func attach(_ symbiotic: SymbioticSetup) throws(VMMError) {
        try attach(
            SymbioticPorts(symbiotic.interface), base: SymbioticPorts.basePort, count: SymbioticPorts.portCount,
            gsi: SymbioticSetup.interruptNumber)
    }
}
