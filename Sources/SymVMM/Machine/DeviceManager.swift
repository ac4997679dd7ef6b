// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase
internal import VMMModel

/// The devices that every machine has, on their buses, and room for more.
struct DeviceManager {
    /// Guest-physical start of the virtio devices' registers: one page each, in the hole below 4 GiB.
    static let mmioBase: UInt64 = 0xd000_0000
    /// Bytes from one device's registers to the next one's.
    static let mmioStride: UInt64 = 0x1000
    /// Interrupts for virtio devices: first the IO-APIC's inputs that no PC device ever had, then those whose PC device is not there.
    static let freeInterrupts: [UInt32] = Array(16...23) + [5, 6, 7, 10, 11, 12, 14, 15]

    var ports = PIOBus()
    var mmio = MMIOBus()
    let serial: Serial8250
    let powerManagement: PowerManagement
    /// The virtio devices, in the order in which the guest finds them.
    private(set) var virtio: [VirtioMMIOTransport] = []
    /// Where they are, for the tables that tell the guest.
    private(set) var virtioDescriptions: [ACPIDescription.MMIODevice] = []
    /// Serves the devices that have no threads of their own.
    let ioThread: IOThread

    init(machine: borrowing KVMVirtualMachine, console: ConsoleOutput) throws(KVMError) {
        let serialInterrupt = try InterruptLine(gsi: Serial8250.interruptNumber, machine: machine)
        serial = try Serial8250(interrupt: serialInterrupt, output: console)
        let sci = LevelInterrupt(gsi: PowerManagement.interruptNumber, machine: try machine.duplicateDescriptor())
        powerManagement = PowerManagement(interrupt: sci)
        ioThread = try IOThread()
        // These ranges do not overlap, so no attachment is refused.
        _ = ports.attach(serial, base: Serial8250.basePort, count: Serial8250.portCount)
        _ = ports.attach(CMOSClock(), base: CMOSClock.basePort, count: CMOSClock.portCount)
        _ = ports.attach(ResetController(), base: ResetController.basePort, count: ResetController.portCount)
        _ = ports.attach(powerManagement, base: PowerManagement.basePort, count: PowerManagement.portCount)
    }

    /// Puts the configuration's disks and network interfaces on the bus, then the generator of random numbers.
    mutating func attachVirtioDevices(
        _ configuration: MachineConfiguration, _ memory: GuestMemory, _ machine: borrowing KVMVirtualMachine
    ) throws(MachineError) {
        for drive in configuration.drives {
            let storage = try DeviceManager.naming("drive '\(drive.id)'") { () throws(KVMError) in
                try FileStorage(path: drive.path, isReadOnly: drive.isReadOnly, sectorSize: drive.sectorSize)
            }
            try attach(VirtioBlock(id: drive.id, storage: storage), memory, machine)
        }
        for interface in configuration.networkInterfaces {
            let device = try DeviceManager.naming("network interface '\(interface.id)'") { () throws(KVMError) in
                try VirtioNet(configuration: interface, machineName: configuration.name, on: ioThread)
            }
            try attach(device, memory, machine)
        }
        try attach(VirtioRng(on: ioThread), memory, machine)
    }

    /// Puts a virtio device at the next free place.
    mutating func attach(_ device: VirtioDevice, _ memory: GuestMemory, _ machine: borrowing KVMVirtualMachine) throws(MachineError) {
        guard virtio.count < DeviceManager.freeInterrupts.count else {
            throw MachineError(
                .configuration,
                "too many devices: \(VirtualMachine.deviceLimit) drives, network interfaces and devices of services at most")
        }
        let base = DeviceManager.mmioBase + UInt64(virtio.count) * DeviceManager.mmioStride
        let gsi = DeviceManager.freeInterrupts[virtio.count]
        do throws(KVMError) {
            let transport = try VirtioMMIOTransport(
                device: device, memory: memory, interrupt: try InterruptLine(gsi: gsi, machine: machine))
            try transport.attach(to: machine, at: base)
            // The places follow each other without overlap.
            _ = mmio.attach(transport, base: base, byteCount: DeviceManager.mmioStride)
            virtio.append(transport)
            virtioDescriptions.append(ACPIDescription.MMIODevice(gpa: base, byteCount: DeviceManager.mmioStride, gsi: gsi))
        } catch {
            throw MachineError(.host, "\(device.name): \(error)")
        }
    }

    /// Puts the symbiotic interface's ports on the bus.
    mutating func attach(_ symbiotic: SymbioticSetup) {
        _ = ports.attach(SymbioticPorts(symbiotic.interface), base: SymbioticPorts.basePort, count: SymbioticPorts.portCount)
    }

    /// Says of which part of the configuration an error is. What is not permitted is the host's matter, the rest the user's.
    private static func naming<Value>(_ part: String, _ make: () throws(KVMError) -> Value) throws(MachineError) -> Value {
        do throws(KVMError) {
            return try make()
        } catch {
            throw MachineError(error.errno == EACCES || error.errno == EPERM ? .host : .configuration, "\(part): \(error)")
        }
    }
}
