// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The MMIO transport, version 2 (virtio 1.2, section 4.2): a page of registers, and one edge-triggered interrupt for all sources.
final class VirtioMMIOTransport: VirtioTransport, @unchecked Sendable {
    /// Bytes of guest-physical address space for the registers, of which 0x200 are used.
    static let byteCount: UInt64 = 0x1000

    /// Creates a transport for a device, with an interrupt line.
    init(device: VirtioDevice, memory: GuestMemory, interrupt line: InterruptLine) throws(VMMError) {
        try super.init(device: device, memory: memory, interrupt: VirtioLineInterrupt(line: line))
    }

    /// Registers the notifiers with KVM, so that a notification causes no exit to user space.
    ///
    /// - Parameter gpa: GPA of the first register.
    func attach(to machine: borrowing KVMVirtualMachine, at gpa: UInt64) throws(VMMError) {
        for index in notifiers.indices {
            try notifiers[index].attach(to: machine, at: gpa &+ VirtioRegister.queueNotify, value: UInt32(index))
        }
    }

    /// Handles a read of a register or of the configuration space.
    override func read(offset: UInt64, size: Int) -> UInt64 {
        if offset >= VirtioRegister.configuration {
            guard offset < VirtioRegister.end else { return countBadAccess(.max) }
            let field = offset - VirtioRegister.configuration
            if field &+ UInt64(size) > UInt64(device.configurationByteCount) { countBadAccess() }
            return device.readConfiguration(offset: field, size: size)
        }
        guard size == 4, offset % 4 == 0 else { return countBadAccess(0) }
        switch offset {
        case VirtioRegister.magicValue: return 0x7472_6976
        case VirtioRegister.version: return 2
        case VirtioRegister.deviceID: return UInt64(device.deviceType)
        case VirtioRegister.vendorID: return 0x4d56_5953  // "SYVM"
        case VirtioRegister.interruptStatus: return UInt64(interrupt.status)
        case VirtioRegister.configurationGeneration: return UInt64(interrupt.configurationGeneration)
        case VirtioRegister.sharedMemoryLengthLow...VirtioRegister.sharedMemoryBaseHigh: return 0xffff_ffff
        case VirtioRegister.status: return UInt64(status)
        default: return VirtioRegister.common(offset).flatMap(read) ?? countBadAccess(0)
        }
    }

    /// Handles a write. Ignores the vCPU, because virtio devices make no symcalls.
    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        writeRegister(offset: offset, size: size, value: value)
    }

    /// Handles a write to a register or to the configuration space.
    func writeRegister(offset: UInt64, size: Int, value: UInt64) {
        if offset >= VirtioRegister.configuration {
            let field = offset - VirtioRegister.configuration
            guard offset < VirtioRegister.end, device.writeConfiguration(offset: field, size: size, value: value) else {
                return countBadAccess()
            }
            return
        }
        guard size == 4, offset % 4 == 0 else { return countBadAccess() }
        let value = UInt32(truncatingIfNeeded: value)
        switch offset {
        case VirtioRegister.queueNotify: notify(value)
        case VirtioRegister.interruptAcknowledge:
            if value & ~VirtioInterrupt.Status.all != 0 { countBadAccess() }
            interrupt.acknowledge(value)
        case VirtioRegister.status: writeStatus(value)
        case VirtioRegister.sharedMemorySelect: break
        default:
            guard let register = VirtioRegister.common(offset) else { return countBadAccess() }
            write(register, value)
        }
    }

    private func countBadAccess(_ answer: UInt64) -> UInt64 {
        countBadAccess()
        return answer
    }
}

/// Registers of the MMIO transport, as offsets (virtio 1.2, section 4.2.2).
enum VirtioRegister {
    static let magicValue: UInt64 = 0x000
    static let version: UInt64 = 0x004
    static let deviceID: UInt64 = 0x008
    static let vendorID: UInt64 = 0x00c
    static let queueNotify: UInt64 = 0x050
    static let interruptStatus: UInt64 = 0x060
    static let interruptAcknowledge: UInt64 = 0x064
    static let status: UInt64 = 0x070
    static let sharedMemorySelect: UInt64 = 0x0ac
    static let sharedMemoryLengthLow: UInt64 = 0x0b0
    static let sharedMemoryBaseHigh: UInt64 = 0x0bc
    static let configurationGeneration: UInt64 = 0x0fc
    static let configuration: UInt64 = 0x100
    static let end: UInt64 = 0x200

    /// The common register at an offset; nil if the register is MMIO's own.
    static func common(_ offset: UInt64) -> VirtioCommonRegister? {
        switch offset {
        case 0x010: .deviceFeatures
        case 0x014: .deviceFeaturesSelect
        case 0x020: .driverFeatures
        case 0x024: .driverFeaturesSelect
        case 0x030: .queueSelect
        case 0x034: .queueSizeMaximum
        case 0x038: .queueSize
        case 0x044: .queueReady
        case 0x080: .queueDescriptorLow
        case 0x084: .queueDescriptorHigh
        case 0x090: .queueDriverLow
        case 0x094: .queueDriverHigh
        case 0x0a0: .queueDeviceLow
        case 0x0a4: .queueDeviceHigh
        default: nil
        }
    }
}
