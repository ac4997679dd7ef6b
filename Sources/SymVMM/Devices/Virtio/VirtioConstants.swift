// SPDX-License-Identifier: Apache-2.0

/// Feature bits that belong to no device type (virtio 1.2, section 6).
public enum VirtioFeature {
    /// A descriptor may point to a table of descriptors.
    public static let indirectDescriptors: UInt64 = 1 << 28  // VIRTIO_F_INDIRECT_DESC
    /// Either side says at which index it wants to be told next.
    public static let eventIndex: UInt64 = 1 << 29  // VIRTIO_F_EVENT_IDX
    /// The device follows version 1 of the specification. This VMM knows no other.
    public static let version1: UInt64 = 1 << 32  // VIRTIO_F_VERSION_1
}

/// Bits of the device status field (virtio 1.2, section 2.1).
public struct VirtioStatus: OptionSet, Sendable {
    /// The register's value.
    public let rawValue: UInt32

    /// Takes a register's value.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// The guest has found the device.
    public static let acknowledge = VirtioStatus(rawValue: 1)  // ACKNOWLEDGE
    /// The guest has a driver for it.
    public static let driver = VirtioStatus(rawValue: 2)  // DRIVER
    /// The driver is ready; the device serves its queues.
    public static let driverOK = VirtioStatus(rawValue: 4)  // DRIVER_OK
    /// Both sides agree on the features.
    public static let featuresOK = VirtioStatus(rawValue: 8)  // FEATURES_OK
    /// The device met something it cannot go on from.
    public static let needsReset = VirtioStatus(rawValue: 64)  // DEVICE_NEEDS_RESET
    /// The driver has given up.
    public static let failed = VirtioStatus(rawValue: 128)  // FAILED

    /// The bits that a driver may set.
    static let drivers: VirtioStatus = [.acknowledge, .driver, .driverOK, .featuresOK, .failed]
}

/// Registers of the MMIO transport, as offsets (virtio 1.2, section 4.2.2).
enum VirtioRegister {
    static let magicValue: UInt64 = 0x000
    static let version: UInt64 = 0x004
    static let deviceID: UInt64 = 0x008
    static let vendorID: UInt64 = 0x00c
    static let deviceFeatures: UInt64 = 0x010
    static let deviceFeaturesSelect: UInt64 = 0x014
    static let driverFeatures: UInt64 = 0x020
    static let driverFeaturesSelect: UInt64 = 0x024
    static let queueSelect: UInt64 = 0x030
    static let queueSizeMaximum: UInt64 = 0x034
    static let queueSize: UInt64 = 0x038
    static let queueReady: UInt64 = 0x044
    static let queueNotify: UInt64 = 0x050
    static let interruptStatus: UInt64 = 0x060
    static let interruptAcknowledge: UInt64 = 0x064
    static let status: UInt64 = 0x070
    static let queueDescriptorLow: UInt64 = 0x080
    static let queueDescriptorHigh: UInt64 = 0x084
    static let queueDriverLow: UInt64 = 0x090
    static let queueDriverHigh: UInt64 = 0x094
    static let queueDeviceLow: UInt64 = 0x0a0
    static let queueDeviceHigh: UInt64 = 0x0a4
    static let sharedMemorySelect: UInt64 = 0x0ac
    static let sharedMemoryLengthLow: UInt64 = 0x0b0
    static let sharedMemoryBaseHigh: UInt64 = 0x0bc
    static let configurationGeneration: UInt64 = 0x0fc
    static let configuration: UInt64 = 0x100
    static let end: UInt64 = 0x200
}

/// Why a virtqueue is no longer served: what the guest did that the specification forbids.
public enum VirtqueueFault: String, Error, Sendable {
    /// The size is not a power of two, or larger than the device's.
    case badSize = "bad queue size"
    /// A ring is misaligned or not all in memory.
    case badRingAddress = "ring misaligned or outside memory"
    /// The available index went on by more than the queue holds.
    case availableIndexJumped = "available index jumped"
    /// A head or a next index is not in the table.
    case descriptorOutOfRange = "descriptor index out of range"
    /// A chain has more descriptors than the queue: a loop, most likely.
    case chainTooLong = "descriptor chain too long"
    /// An indirect table of bad length or place, within another one, without the feature, or with a successor.
    case badIndirectTable = "bad indirect table"
    /// A buffer is not all in memory.
    case badBufferAddress = "buffer outside memory"
    /// A buffer for the device to read follows one for it to write.
    case readableAfterWritable = "readable buffer after a writable one"
    /// A chain of 4 GiB or more.
    case chainTooLarge = "descriptor chain of 4 GiB or more"
    /// The chain lacks what the device needs to answer at all.
    case malformedRequest = "malformed request"
}
