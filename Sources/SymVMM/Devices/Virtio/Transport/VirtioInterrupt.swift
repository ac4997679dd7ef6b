// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// How a virtio device notifies its driver: which of its queues has used buffers, or that its configuration changed.
///
/// A transport overrides `signal(_:)`. A transport with a line (MMIO, and PCI without MSI-X) raises that line for every source; a transport
/// with MSI-X would send the source's own message. Any thread. It uses only atomics, so a worker never waits for a vCPU.
public class VirtioInterrupt: @unchecked Sendable {
    /// The source of a notification.
    enum Source: Equatable {
        /// The queue with this index has used buffers.
        case queue(Int)
        /// The configuration space or the device status has changed.
        case configuration
    }

    /// Bits of the interrupt status register (virtio 1.2, section 4.2.2).
    enum Status {
        static let usedBuffers: UInt32 = 1 << 0
        static let configuration: UInt32 = 1 << 1
        static let all = usedBuffers | configuration
    }

    private let pending = Atomic<UInt32>(0)
    private let generation = Atomic<UInt32>(0)
    private let resetRequired = Atomic<Bool>(false)
    private let faults = Atomic<UInt64>(0)
    private let raised = Atomic<UInt64>(0)

    init() {
    }

    /// Interrupts the guest. For subclasses.
    func signal(_ source: Source) {
    }

    /// Notifies the guest that the queue with this index has used buffers.
    final func buffersUsed(queue index: Int) {
        raise(.queue(index), Status.usedBuffers)
    }

    /// Notifies the guest that the configuration space has changed.
    public final func configurationChanged() {
        generation.wrappingAdd(1, ordering: .acquiringAndReleasing)
        raise(.configuration, Status.configuration)
    }

    /// Sets DEVICE_NEEDS_RESET and notifies the guest: the device cannot continue until a reset (virtio 1.2, section 2.1.2).
    final func requireReset() {
        faults.wrappingAdd(1, ordering: .relaxed)
        resetRequired.store(true, ordering: .releasing)
        raise(.configuration, Status.configuration)
    }

    /// Value of the interrupt status register.
    final var status: UInt32 {
        pending.load(ordering: .acquiring)
    }

    /// Changes with the configuration space (virtio 1.2, section 2.5.1).
    final var configurationGeneration: UInt32 {
        generation.load(ordering: .acquiring)
    }

    /// Whether the status register shows DEVICE_NEEDS_RESET.
    final var isResetRequired: Bool {
        resetRequired.load(ordering: .acquiring)
    }

    /// How often a queue or an activation failed.
    final var faultCount: UInt64 {
        faults.load(ordering: .relaxed)
    }

    /// Interrupts raised.
    final var raisedCount: UInt64 {
        raised.load(ordering: .relaxed)
    }

    /// Clears the causes that the guest has handled.
    final func acknowledge(_ causes: UInt32) {
        pending.bitwiseAnd(~causes, ordering: .acquiringAndReleasing)
    }

    /// Resets the state. The device is stopped, so no interrupt can race.
    final func clear() {
        pending.store(0, ordering: .releasing)
        resetRequired.store(false, ordering: .releasing)
    }

    private func raise(_ source: Source, _ cause: UInt32) {
        pending.bitwiseOr(cause, ordering: .acquiringAndReleasing)
        raised.wrappingAdd(1, ordering: .relaxed)
        signal(source)
    }
}

/// Saving and restoring. The device is suspended.
extension VirtioInterrupt {
    /// The causes that the guest has not acknowledged.
    struct State: Codable, Sendable, Equatable {
        var status: UInt32 = 0
        var configurationGeneration: UInt32 = 0
        var isResetRequired = false
    }

    final func saveState() -> State {
        State(status: status, configurationGeneration: configurationGeneration, isResetRequired: isResetRequired)
    }

    final func restoreState(_ state: State) throws(VMMError) {
        guard state.status & ~Status.all == 0 else {
            throw .user("the interrupt status 0x\(String(state.status, radix: 16)) has unknown bits")
        }
        pending.store(state.status, ordering: .releasing)
        generation.store(state.configurationGeneration, ordering: .releasing)
        resetRequired.store(state.isResetRequired, ordering: .releasing)
    }

    /// Interrupts again for causes that the guest has not acknowledged, because an interrupt may have been in flight when the state was saved.
    /// A second interrupt is harmless: the driver finds no work.
    ///
    /// - Parameter queueCount: number of queues. The status does not record which queue raised the interrupt, so all are signalled.
    final func signalAgain(queueCount: Int) {
        let status = status
        if status & Status.usedBuffers != 0 { for index in 0..<queueCount { signal(.queue(index)) } }
        if status & Status.configuration != 0 { signal(.configuration) }
    }
}

/// The interrupt of a transport with one line for all sources.
final class VirtioLineInterrupt: VirtioInterrupt, @unchecked Sendable {
    private let line: InterruptLine

    init(line: InterruptLine) {
        self.line = line
        super.init()
    }

    override func signal(_ source: Source) {
        line.trigger()
    }
}
