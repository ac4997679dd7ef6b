// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The state of a device and its transport. The transport is suspended, so nothing is in flight.
extension VirtioTransport: Snapshotable {
    /// Registers, queues, and the device's own state.
    struct State: Codable, Sendable {
        var deviceType: UInt32
        var offeredFeatures: UInt64
        var configuration: HexBytes
        var registers: VirtioRegisterFile.State
        var interrupt: VirtioInterrupt.State
        /// The queues of a live device; an element is nil if the driver has not set up the queue.
        var queues: [VirtqueueState?]?
        var device: SavedState
    }

    static let stateKind = "virtio"
    /// Bytes of configuration space that are compared.
    private static let configurationByteCount = 256

    func saveState() throws(VMMError) -> State {
        guard let part = device as? any Snapshotable else { throw .host("\(device.name) cannot be saved") }
        let device = try VirtioTransport.save(part)
        return lifecycle.withLock { lifecycle in
            State(
                deviceType: self.device.deviceType, offeredFeatures: offered, configuration: configuration,
                registers: registers.withLock { $0.saveState() }, interrupt: interrupt.saveState(),
                queues: lifecycle.queues?.map { $0?.saveState() }, device: device)
        }
    }

    /// Leaves the device suspended. Call `resume()` after the whole machine is restored.
    func restoreState(_ state: State) throws(VMMError) {
        guard let part = device as? any Snapshotable else { throw .host("\(device.name) cannot be restored") }
        guard state.deviceType == device.deviceType else {
            throw .user("the device has type \(device.deviceType), the saved one has type \(state.deviceType)")
        }
        try VirtioTransport.restore(state.device, to: part)
        guard state.offeredFeatures == offered else {
            throw .user(
                "the device offers features 0x\(String(offered, radix: 16)), the saved one 0x\(String(state.offeredFeatures, radix: 16))")
        }
        guard state.configuration == configuration else { throw .user("its configuration space differs from the saved one") }
        var restored = VirtioRegisterFile(offered: offered, queueSizes: device.queueSizes)
        try restored.restoreState(state.registers)
        guard !restored.status.contains(.featuresOK) || device.accepts(restored.driverFeatures) else {
            throw .user("the device does not support the combination of features 0x\(String(restored.driverFeatures, radix: 16))")
        }
        let queues = try queues(of: state, restored)
        try interrupt.restoreState(state.interrupt)
        registers.withLock { $0 = restored }
        lifecycle.withLock { lifecycle in
            lifecycle.isSuspended = true
            (lifecycle.queues, lifecycle.features) = (queues, restored.driverFeatures)
        }
    }

    private func queues(of state: State, _ registers: VirtioRegisterFile) throws(VMMError) -> [Virtqueue?]? {
        guard let saved = state.queues else { return nil }
        let layouts = registers.readyLayouts
        guard registers.status.contains(.driverOK), saved.count == layouts.count,
            zip(saved, layouts).allSatisfy({ ($0 == nil) == ($1 == nil) })
        else { throw .user("the live queues are not the queues that the driver has set up") }
        do throws(VirtqueueFault) {
            return try makeQueues(layouts, registers.driverFeatures, saved)
        } catch {
            throw .user("a queue: \(error.rawValue)")
        }
    }

    private var configuration: HexBytes {
        HexBytes(
            (0..<VirtioTransport.configurationByteCount).map {
                UInt8(truncatingIfNeeded: device.readConfiguration(offset: UInt64($0), size: 1))
            })
    }

    private static func save<Part: Snapshotable>(_ part: Part) throws(VMMError) -> SavedState {
        try SavedState(of: part)
    }

    private static func restore<Part: Snapshotable>(_ state: SavedState, to part: Part) throws(VMMError) {
        try state.restore(to: part)
    }
}
