// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The registers that every transport has, at offsets of its own (virtio 1.2: section 4.2.2 for MMIO, 4.1.4.3 for PCI).
enum VirtioCommonRegister {
    case deviceFeaturesSelect, deviceFeatures
    case driverFeaturesSelect, driverFeatures
    case queueSelect, queueSizeMaximum, queueSize, queueReady
    case queueDescriptorLow, queueDescriptorHigh
    case queueDriverLow, queueDriverHigh
    case queueDeviceLow, queueDeviceHigh
}

/// The common registers that are plain state: selectors, features, queue set-up.
struct VirtioRegisterFile: Sendable {
    private let offered: UInt64
    var status: VirtioStatus = []
    private(set) var driverFeatures: UInt64 = 0
    private var deviceFeaturesSelect: UInt32 = 0
    private var driverFeaturesSelect: UInt32 = 0
    /// The words of 32 features from 64 up in which the driver accepts any: bit N for word N, the last one for all further words. None is offered.
    private var unofferedWords: UInt64 = 0
    private var queueSelect: UInt32 = 0
    private var queues: [Queue]

    private struct Queue: Sendable {
        let maximumSize: UInt16
        var layout: VirtqueueLayout
        var isReady = false
    }

    init(offered: UInt64, queueSizes: [UInt16]) {
        self.offered = offered
        queues = queueSizes.map {
            Queue(maximumSize: $0, layout: VirtqueueLayout(size: $0, descriptorTable: 0, availableRing: 0, usedRing: 0))
        }
    }

    /// Whether FEATURES_OK may be set: the driver accepts version 1, and no feature that was not offered.
    var featuresAgree: Bool {
        status.contains(.driver) && driverFeatures & ~offered == 0 && unofferedWords == 0 && driverFeatures & VirtioFeature.version1 != 0
    }

    /// The layout of each queue that is ready.
    var readyLayouts: [VirtqueueLayout?] {
        queues.map { $0.isReady ? $0.layout : nil }
    }

    /// Index of the selected queue, or nil when there is no such queue.
    private var selected: Int? {
        queueSelect < UInt32(queues.count) ? Int(queueSelect) : nil
    }

    /// The value of a register; nil if it is write-only.
    func read(_ register: VirtioCommonRegister) -> UInt64? {
        switch register {
        case .deviceFeatures:
            switch deviceFeaturesSelect {
            case 0: return offered & 0xffff_ffff
            case 1: return offered >> 32
            default: return 0
            }
        case .queueSizeMaximum: return selected.map { UInt64(queues[$0].maximumSize) } ?? 0
        case .queueReady: return selected.map { queues[$0].isReady ? 1 : 0 } ?? 0
        default: return nil
        }
    }

    /// Handles a write. Returns false if the register is read-only or the device status does not allow the write.
    mutating func write(_ register: VirtioCommonRegister, _ value: UInt32) -> Bool {
        switch register {
        case .deviceFeaturesSelect: deviceFeaturesSelect = value
        case .driverFeaturesSelect: driverFeaturesSelect = value
        case .queueSelect: queueSelect = value
        case .driverFeatures: return writeFeatures(value)
        default: return writeQueue(register, value)
        }
        return true
    }

    /// Whether the selected queue is ready; nil if there is no such queue.
    var isSelectedReady: Bool? {
        selected.map { queues[$0].isReady }
    }

    /// Marks the selected queue as not ready; all queues if the device has started.
    mutating func clearReady() {
        if status.contains(.driverOK) {
            for index in queues.indices { queues[index].isReady = false }
        } else if let selected {
            queues[selected].isReady = false
        }
    }

    private mutating func writeFeatures(_ value: UInt32) -> Bool {
        guard status.contains(.driver), !status.contains(.featuresOK) else { return false }
        switch driverFeaturesSelect {
        case 0: driverFeatures = driverFeatures & ~0xffff_ffff | UInt64(value)
        case 1: driverFeatures = driverFeatures & 0xffff_ffff | UInt64(value) << 32
        // Features from 64 up are not offered: FEATURES_OK is refused while the driver accepts one.
        default:
            let word: UInt64 = 1 << UInt64(min(driverFeaturesSelect, 63))
            unofferedWords = value == 0 ? unofferedWords & ~word : unofferedWords | word
        }
        return true
    }

    private mutating func writeQueue(_ register: VirtioCommonRegister, _ value: UInt32) -> Bool {
        guard let selected, status.contains(.featuresOK), !status.contains(.driverOK), !queues[selected].isReady else { return false }
        switch register {
        case .queueSize:
            // After a bad size the queue is unusable until the driver writes a good one: the two sides would disagree about the rings.
            let isGood = value <= UInt32(queues[selected].maximumSize) && VirtqueueLayout.isSize(UInt16(truncatingIfNeeded: value))
            queues[selected].layout.size = isGood ? UInt16(value) : 0
            return isGood
        case .queueReady:
            guard value == 1 else { return false }
            queues[selected].isReady = true
        case .queueDescriptorLow: VirtioRegisterFile.setLow(&queues[selected].layout.descriptorTable, value)
        case .queueDescriptorHigh: VirtioRegisterFile.setHigh(&queues[selected].layout.descriptorTable, value)
        case .queueDriverLow: VirtioRegisterFile.setLow(&queues[selected].layout.availableRing, value)
        case .queueDriverHigh: VirtioRegisterFile.setHigh(&queues[selected].layout.availableRing, value)
        case .queueDeviceLow: VirtioRegisterFile.setLow(&queues[selected].layout.usedRing, value)
        case .queueDeviceHigh: VirtioRegisterFile.setHigh(&queues[selected].layout.usedRing, value)
        default: return false
        }
        return true
    }

    private static func setLow(_ address: inout UInt64, _ low: UInt32) {
        address = address & ~0xffff_ffff | UInt64(low)
    }

    private static func setHigh(_ address: inout UInt64, _ high: UInt32) {
        address = address & 0xffff_ffff | UInt64(high) << 32
    }
}

/// Saving and restoring.
extension VirtioRegisterFile {
    /// The values that the driver has written.
    struct State: Codable, Sendable, Equatable {
        struct Queue: Codable, Sendable, Equatable {
            var layout: VirtqueueLayout
            var isReady: Bool
        }

        var status: UInt32
        var driverFeatures: UInt64
        var deviceFeaturesSelect: UInt32
        var driverFeaturesSelect: UInt32
        var unofferedWords: UInt64
        var queueSelect: UInt32
        var queues: [Queue]
    }

    func saveState() -> State {
        State(
            status: status.rawValue, driverFeatures: driverFeatures, deviceFeaturesSelect: deviceFeaturesSelect,
            driverFeaturesSelect: driverFeaturesSelect, unofferedWords: unofferedWords, queueSelect: queueSelect,
            queues: queues.map { State.Queue(layout: $0.layout, isReady: $0.isReady) })
    }

    /// Checks that a driver could have caused the state, and adopts it. The device checks ring addresses when it becomes active.
    mutating func restoreState(_ state: State) throws(VMMError) {
        guard state.queues.count == queues.count else { throw .user("the state has \(state.queues.count) queues, not \(queues.count)") }
        for (queue, saved) in zip(queues, state.queues) {
            // 0: the driver has written a bad size.
            guard saved.layout.size <= queue.maximumSize, saved.layout.size == 0 || VirtqueueLayout.isSize(saved.layout.size) else {
                throw .user("a queue of \(saved.layout.size) descriptors: \(VirtqueueFault.badSize.rawValue)")
            }
        }
        let restored = VirtioStatus(rawValue: state.status)
        guard restored.isSubset(of: .drivers) else {
            throw .user("the device status 0x\(String(state.status, radix: 16)) has unknown bits")
        }
        status = restored
        driverFeatures = state.driverFeatures
        unofferedWords = state.unofferedWords
        guard featuresAgree || !restored.contains(.featuresOK) else {
            throw .user("the driver has features that this device does not offer: 0x\(String(driverFeatures & ~offered, radix: 16))")
        }
        guard restored.contains(.featuresOK) || !restored.contains(.driverOK) else { throw .user("DRIVER_OK without FEATURES_OK") }
        deviceFeaturesSelect = state.deviceFeaturesSelect
        driverFeaturesSelect = state.driverFeaturesSelect
        queueSelect = state.queueSelect
        for index in queues.indices {
            queues[index].layout = state.queues[index].layout
            queues[index].isReady = state.queues[index].isReady
        }
    }
}
