// SPDX-License-Identifier: Apache-2.0

/// The registers of the MMIO transport that are plain state: selectors, features, queue set-up (virtio 1.2, section 4.2.2).
struct VirtioRegisterFile: Sendable {
    private let offered: UInt64
    var status: VirtioStatus = []
    private(set) var driverFeatures: UInt64 = 0
    private var deviceFeaturesSelect: UInt32 = 0
    private var driverFeaturesSelect: UInt32 = 0
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

    /// Whether FEATURES_OK may be set: version 1, and nothing that was not offered.
    var featuresAgree: Bool {
        status.contains(.driver) && driverFeatures & ~offered == 0 && driverFeatures & VirtioFeature.version1 != 0
    }

    /// The layout of each queue that is ready.
    var readyLayouts: [VirtqueueLayout?] {
        queues.map { $0.isReady ? $0.layout : nil }
    }

    /// Index of the selected queue, or nil when there is no such queue.
    private var selected: Int? {
        queueSelect < UInt32(queues.count) ? Int(queueSelect) : nil
    }

    func read(_ offset: UInt64) -> UInt64 {
        switch offset {
        case VirtioRegister.deviceFeatures:
            switch deviceFeaturesSelect {
            case 0: return offered & 0xffff_ffff
            case 1: return offered >> 32
            default: return 0
            }
        case VirtioRegister.queueSizeMaximum: return selected.map { UInt64(queues[$0].maximumSize) } ?? 0
        case VirtioRegister.queueReady: return selected.map { queues[$0].isReady ? 1 : 0 } ?? 0
        default: return 0
        }
    }

    /// Takes a write; false when it is not allowed now, or not at all.
    mutating func write(_ offset: UInt64, _ value: UInt32) -> Bool {
        switch offset {
        case VirtioRegister.deviceFeaturesSelect: deviceFeaturesSelect = value
        case VirtioRegister.driverFeaturesSelect: driverFeaturesSelect = value
        case VirtioRegister.queueSelect: queueSelect = value
        case VirtioRegister.sharedMemorySelect: break
        case VirtioRegister.driverFeatures: return writeFeatures(value)
        default: return writeQueue(offset, value)
        }
        return true
    }

    /// No queue is ready any more.
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
        // Features that do not exist cannot be taken; remembering that they were asked for is not worth a field.
        default: return value == 0
        }
        return true
    }

    private mutating func writeQueue(_ offset: UInt64, _ value: UInt32) -> Bool {
        guard let selected, status.contains(.featuresOK), !status.contains(.driverOK), !queues[selected].isReady else { return false }
        let low = UInt64(value)
        let high = UInt64(value) << 32
        switch offset {
        case VirtioRegister.queueSize:
            guard value > 0, value & (value - 1) == 0, value <= UInt32(queues[selected].maximumSize) else { return false }
            queues[selected].layout.size = UInt16(value)
        case VirtioRegister.queueReady:
            guard value == 1 else { return false }
            queues[selected].isReady = true
        case VirtioRegister.queueDescriptorLow: VirtioRegisterFile.setLow(&queues[selected].layout.descriptorTable, low)
        case VirtioRegister.queueDescriptorHigh: VirtioRegisterFile.setHigh(&queues[selected].layout.descriptorTable, high)
        case VirtioRegister.queueDriverLow: VirtioRegisterFile.setLow(&queues[selected].layout.availableRing, low)
        case VirtioRegister.queueDriverHigh: VirtioRegisterFile.setHigh(&queues[selected].layout.availableRing, high)
        case VirtioRegister.queueDeviceLow: VirtioRegisterFile.setLow(&queues[selected].layout.usedRing, low)
        case VirtioRegister.queueDeviceHigh: VirtioRegisterFile.setHigh(&queues[selected].layout.usedRing, high)
        default: return false
        }
        return true
    }

    private static func setLow(_ address: inout UInt64, _ low: UInt64) {
        address = address & ~0xffff_ffff | low
    }

    private static func setHigh(_ address: inout UInt64, _ high: UInt64) {
        address = address & 0xffff_ffff | high
    }
}
