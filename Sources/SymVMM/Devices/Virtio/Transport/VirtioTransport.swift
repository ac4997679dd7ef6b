// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The part that all virtio transports share: negotiates features, sets up the queues, and starts, suspends and stops the device. A subclass
/// defines the layout of the registers: `VirtioMMIOTransport`.
///
/// Writes to the status register start and stop the device. The driver may only add bits; a write of 0 resets the device in every state:
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
///     The driver may write features while "driven" and set up queues while "agreed". The transport ignores and counts other writes.
///
/// Two locks. Every access holds `registers` for a few instructions. `lifecycle` serializes activation, reset, stop and suspension, which
/// may wait for requests in flight. On vCPU threads, only writes to the status and writes that disable a queue take it.
///
/// A class, not a protocol: the bus calls it on exits, and a class call crosses no existential.
class VirtioTransport: BusDevice, @unchecked Sendable {
    /// The transport's device.
    let device: VirtioDevice
    let memory: GuestMemory
    let interrupt: VirtioInterrupt
    let notifiers: [QueueNotifier]
    let offered: UInt64
    let registers: Mutex<VirtioRegisterFile>
    let lifecycle = Mutex(Lifecycle())
    private let exitNotifications = Atomic<UInt64>(0)
    private let badAccesses = Atomic<UInt64>(0)
    private let resets = Atomic<UInt64>(0)

    struct Lifecycle {
        /// The queues of a live device; nil if the device is not live.
        var queues: [Virtqueue?]?
        var features: UInt64 = 0
        /// The device is suspended, which is invisible to the guest.
        var isSuspended = false
    }

    /// Creates a transport for a device.
    init(device: VirtioDevice, memory: GuestMemory, interrupt: VirtioInterrupt) throws(VMMError) {
        self.device = device
        self.memory = memory
        self.interrupt = interrupt
        var notifiers: [QueueNotifier] = []
        for _ in device.queueSizes { notifiers.append(try QueueNotifier()) }
        self.notifiers = notifiers
        offered =
            device.features | VirtioFeature.version1 | VirtioFeature.indirectDescriptors | VirtioFeature.eventIndex
        registers = Mutex(VirtioRegisterFile(offered: offered, queueSizes: device.queueSizes))
        super.init(name: device.name)
    }

    // MARK: For the machine

    /// Stops the device. Returns when no request is in flight. Any thread except the device's own.
    final func stop() {
        lifecycle.withLock { stopDevice(&$0) }
    }

    /// The device's counters, then the transport's.
    final func counters() -> [(name: String, value: UInt64)] {
        device.counters() + [
            ("interrupts", interrupt.raisedCount),
            ("notification_exits", exitNotifications.load(ordering: .relaxed)),
            ("bad_accesses", badAccesses.load(ordering: .relaxed)),
            ("faults", interrupt.faultCount),
            ("resets", resets.load(ordering: .relaxed)),
        ]
    }

    /// Completes the requests in flight and starts no others. Does not change the queues.
    override final func suspend() {
        lifecycle.withLock { lifecycle in
            guard !lifecycle.isSuspended else { return }
            lifecycle.isSuspended = true
            if lifecycle.queues != nil { device.stop() }
        }
    }

    /// Serves the queues again, after `suspend()` or after a restore.
    override final func resume() {
        lifecycle.withLock { lifecycle in
            guard lifecycle.isSuspended else { return }
            lifecycle.isSuspended = false
            startDevice(&lifecycle)
            // A notification or interrupt from just before the suspension is not part of a saved state: repeat it.
            for notifier in notifiers where lifecycle.queues != nil { notifier.ring() }
            interrupt.signalAgain(queueCount: notifiers.count)
        }
    }

    // MARK: For subclasses, on vCPU threads

    /// Value of a common register; nil if it is write-only.
    final func read(_ register: VirtioCommonRegister) -> UInt64? {
        registers.withLock { $0.read(register) }
    }

    /// Handles a write to a common register.
    final func write(_ register: VirtioCommonRegister, _ value: UInt32) {
        if register == .queueReady, value == 0 { return lifecycle.withLock { turnQueueOff(&$0) } }
        if !registers.withLock({ $0.write(register, value) }) { countBadAccess() }
    }

    /// Value of the status register.
    final var status: UInt32 {
        let status = registers.withLock { $0.status }
        return (interrupt.isResetRequired ? status.union(.needsReset) : status).rawValue
    }

    /// Handles a write to the status register.
    final func writeStatus(_ value: UInt32) {
        lifecycle.withLock { writeStatus(value, &$0) }
    }

    /// Handles a queue notification that caused an exit.
    final func notify(_ queue: UInt32) {
        guard queue < UInt32(notifiers.count) else { return countBadAccess() }
        exitNotifications.wrappingAdd(1, ordering: .relaxed)
        notifiers[Int(queue)].ring()
    }

    /// Counts an access that the specification forbids.
    final func countBadAccess() {
        badAccesses.wrappingAdd(1, ordering: .relaxed)
    }

    // MARK: Under the lock

    private func writeStatus(_ value: UInt32, _ lifecycle: inout Lifecycle) {
        guard value != 0 else { return reset(&lifecycle) }
        let written = VirtioStatus(rawValue: value)
        // A driver may write DEVICE_NEEDS_RESET back as it has read it.
        if !written.isSubset(of: .drivers.union(.needsReset)) { countBadAccess() }
        let asked = written.intersection(.drivers)
        let before = registers.withLock { $0.status }
        // The driver must not clear a bit, other than by a reset (virtio 1.2, section 2.1.1).
        guard asked.isSuperset(of: before) else { return countBadAccess() }
        let areRefused = registers.withLock { registers in
            registers.status.formUnion(asked.intersection([.acknowledge, .driver, .failed]))
            guard asked.contains(.featuresOK), !registers.status.contains(.featuresOK) else { return false }
            guard registers.featuresAgree, device.accepts(registers.driverFeatures) else { return true }
            registers.status.insert(.featuresOK)
            return false
        }
        if areRefused { countBadAccess() }
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
        do throws(VirtqueueFault) {
            let queues = try makeQueues(layouts, features, layouts.map { $0.map { _ in VirtqueueState() } })
            (lifecycle.queues, lifecycle.features) = (queues, features)
        } catch {
            return interrupt.requireReset()
        }
        startDevice(&lifecycle)
    }

    /// Creates the queues with these layouts and indices.
    final func makeQueues(_ layouts: [VirtqueueLayout?], _ features: UInt64, _ states: [VirtqueueState?]) throws(VirtqueueFault)
        -> [Virtqueue?]
    {
        var queues: [Virtqueue?] = []
        for (index, (layout, state)) in zip(layouts, states).enumerated() {
            guard let layout, let state else {
                queues.append(nil)
                continue
            }
            let queue = try Virtqueue(
                index: index, layout: layout, maximumSize: device.queueSizes[index], features: features, memory: memory,
                notifier: notifiers[index], interrupt: interrupt, state: state)
            queues.append(queue)
        }
        return queues
    }

    /// Activates the device with its live queues.
    private func startDevice(_ lifecycle: inout Lifecycle) {
        guard let queues = lifecycle.queues, !lifecycle.isSuspended else { return }
        do throws(VMMError) {
            try device.activate(queues, features: lifecycle.features, interrupt: interrupt)
        } catch {
            stopDevice(&lifecycle)
            interrupt.requireReset()
        }
    }

    /// Handles the disabling of a queue. Stops a live device with all its queues, because no device here works without one of them; the guest must
    /// reset the device to use it again.
    private func turnQueueOff(_ lifecycle: inout Lifecycle) {
        guard let isReady = registers.withLock({ $0.isSelectedReady }) else { return countBadAccess() }
        guard isReady else { return }
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
        guard lifecycle.queues != nil else { return }
        lifecycle.queues = nil
        if !lifecycle.isSuspended { device.stop() }
    }
}
