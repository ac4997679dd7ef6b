// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The MMIO transport, version 2 (virtio 1.2, section 4.2): a register file in front of a `VirtioDevice`.
///
/// The status register drives the device. Bits only ever add up; a write of 0 is a reset from anywhere:
///
///     0 -- ACKNOWLEDGE --> found -- DRIVER --> driven -- FEATURES_OK, features good --> agreed
///                                                 |                                       |
///                                    features bad: the bit stays 0             DRIVER_OK: |
///                                                                                         v
///        serves nothing, DEVICE_NEEDS_RESET <-- a queue or activate() fails -------- activation
///                          ^                                                              | good
///                          |                                                              v
///                          +------- the guest breaks a ring (a queue turned off) ------ live
///
///     features are taken while driven; queues are set up while agreed; a register written in another state is ignored and counted.
///
/// Two locks. `registers` is held for a few instructions by every access. `lifecycle` serialises activation, reset and stop, which
/// may wait for requests in flight, and is taken only by writes to Status and by writes of 0 to QueueReady.
final class VirtioMMIOTransport: BusDevice, @unchecked Sendable {
    /// Bytes of guest-physical space to keep for the registers; 0x200 are used.
    static let byteCount: UInt64 = 0x1000

    /// The device behind the registers.
    let device: VirtioDevice
    /// The interrupt line that the device raises.
    let interruptLine: InterruptLine

    private let memory: GuestMemory
    private let interrupt: VirtioInterrupt
    private let notifiers: [QueueNotifier]
    private let offered: UInt64
    private let registers: Mutex<VirtioRegisterFile>
    private let lifecycle = Mutex(Lifecycle())
    private let exitNotifications = Atomic<UInt64>(0)
    private let badAccesses = Atomic<UInt64>(0)
    private let resets = Atomic<UInt64>(0)

    private struct Lifecycle {
        var isActive = false
    }

    /// Puts a device behind registers.
    init(device: VirtioDevice, memory: GuestMemory, interrupt line: InterruptLine) throws(KVMError) {
        self.device = device
        self.memory = memory
        interruptLine = line
        interrupt = VirtioInterrupt(line: line)
        var notifiers: [QueueNotifier] = []
        for _ in device.queueSizes { notifiers.append(try QueueNotifier()) }
        self.notifiers = notifiers
        offered =
            device.features | VirtioFeature.version1 | VirtioFeature.indirectDescriptors | VirtioFeature.eventIndex
        registers = Mutex(VirtioRegisterFile(offered: offered, queueSizes: device.queueSizes))
        super.init(name: device.name)
    }

    /// Lets KVM ring the notifiers itself, so that a notification costs no exit to user space.
    ///
    /// - Parameter gpa: where the registers begin.
    func attach(to machine: borrowing KVMVirtualMachine, at gpa: UInt64) throws(KVMError) {
        for index in notifiers.indices {
            try notifiers[index].attach(to: machine, at: gpa &+ VirtioRegister.queueNotify, value: UInt32(index))
        }
    }

    /// Stops the device for good or until the guest resets it; returns when nothing is in flight. Any thread but the device's own.
    func stop() {
        lifecycle.withLock { stopDevice(&$0) }
    }

    /// The device's counters, then the transport's.
    func counters() -> [(name: String, value: UInt64)] {
        device.counters() + [
            ("interrupts", interrupt.raisedCount),
            ("notification_exits", exitNotifications.load(ordering: .relaxed)),
            ("bad_accesses", badAccesses.load(ordering: .relaxed)),
            ("faults", interrupt.faultCount),
            ("resets", resets.load(ordering: .relaxed)),
        ]
    }

    /// Answers a read of a register or of the configuration space.
    override func read(offset: UInt64, size: Int) -> UInt64 {
        if offset >= VirtioRegister.configuration {
            guard offset < VirtioRegister.end else { return countBadAccess(.max) }
            return device.readConfiguration(offset: offset - VirtioRegister.configuration, size: size)
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
        case VirtioRegister.status:
            let status = registers.withLock { $0.status }
            return UInt64((interrupt.isResetWanted ? status.union(.needsReset) : status).rawValue)
        default: return registers.withLock { $0.read(offset) }
        }
    }

    /// Takes a write. Virtio devices ask for no symcall, so the vCPU does not matter.
    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        writeRegister(offset: offset, size: size, value: value)
    }

    /// Takes a write of a register or of the configuration space.
    func writeRegister(offset: UInt64, size: Int, value: UInt64) {
        if offset >= VirtioRegister.configuration {
            guard offset < VirtioRegister.end else { return countBadAccess() }
            return device.writeConfiguration(offset: offset - VirtioRegister.configuration, size: size, value: value)
        }
        guard size == 4, offset % 4 == 0 else { return countBadAccess() }
        let value = UInt32(truncatingIfNeeded: value)
        switch offset {
        case VirtioRegister.queueNotify: notify(value)
        case VirtioRegister.interruptAcknowledge: interrupt.acknowledge(value)
        case VirtioRegister.status: lifecycle.withLock { writeStatus(value, &$0) }
        case VirtioRegister.queueReady where value == 0: lifecycle.withLock { turnQueueOff(&$0) }
        default: if !registers.withLock({ $0.write(offset, value) }) { countBadAccess() }
        }
    }

    private func notify(_ queue: UInt32) {
        guard queue < UInt32(notifiers.count) else { return countBadAccess() }
        exitNotifications.wrappingAdd(1, ordering: .relaxed)
        notifiers[Int(queue)].ring()
    }

    private func writeStatus(_ value: UInt32, _ lifecycle: inout Lifecycle) {
        guard value != 0 else { return reset(&lifecycle) }
        let asked = VirtioStatus(rawValue: value).intersection(.drivers)
        let before = registers.withLock { $0.status }
        // The driver must not clear a bit, other than by a reset (virtio 1.2, section 2.1.1).
        guard asked.isSuperset(of: before) else { return countBadAccess() }
        registers.withLock { registers in
            registers.status.formUnion(asked.intersection([.acknowledge, .driver, .failed]))
            if asked.contains(.featuresOK), registers.featuresAgree, device.accepts(registers.driverFeatures) {
                registers.status.insert(.featuresOK)
            }
        }
        guard asked.contains(.driverOK), !before.contains(.driverOK) else { return }
        let isAllowed = registers.withLock { registers in
            guard registers.status.isSuperset(of: [.driver, .featuresOK]), !registers.status.contains(.failed) else { return false }
            registers.status.insert(.driverOK)
            return true
        }
        if isAllowed { activate(&lifecycle) } else { countBadAccess() }
    }

    private func activate(_ lifecycle: inout Lifecycle) {
        let (layouts, features) = registers.withLock { ($0.readyLayouts, $0.driverFeatures) }
        var queues: [Virtqueue?] = []
        for (index, layout) in layouts.enumerated() {
            guard let layout else {
                queues.append(nil)
                continue
            }
            do throws(VirtqueueFault) {
                let queue = try Virtqueue(
                    index: index, layout: layout, maximumSize: device.queueSizes[index], features: features, memory: memory,
                    notifier: notifiers[index], interrupt: interrupt)
                queues.append(queue)
            } catch {
                return interrupt.requireReset()
            }
        }
        lifecycle.isActive = true
        do throws(KVMError) {
            try device.activate(queues, features: features, interrupt: interrupt)
        } catch {
            stopDevice(&lifecycle)
            interrupt.requireReset()
        }
    }

    /// QueueReady = 0. On a live device all its queues end, as none here is of use without the others; the guest resets it to go on.
    private func turnQueueOff(_ lifecycle: inout Lifecycle) {
        stopDevice(&lifecycle)
        registers.withLock { $0.clearReady() }
    }

    private func reset(_ lifecycle: inout Lifecycle) {
        stopDevice(&lifecycle)
        resets.wrappingAdd(1, ordering: .relaxed)
        interrupt.clear()
        registers.withLock { $0 = VirtioRegisterFile(offered: offered, queueSizes: device.queueSizes) }
    }

    private func stopDevice(_ lifecycle: inout Lifecycle) {
        guard lifecycle.isActive else { return }
        lifecycle.isActive = false
        device.stop()
    }

    private func countBadAccess() {
        badAccesses.wrappingAdd(1, ordering: .relaxed)
    }

    private func countBadAccess(_ answer: UInt64) -> UInt64 {
        countBadAccess()
        return answer
    }
}
