// SPDX-License-Identifier: Apache-2.0

/// Feature bits that belong to no device type (virtio 1.2, section 6).
public enum VirtioFeature {
    /// A descriptor may point to a table of descriptors.
    public static let indirectDescriptors: UInt64 = 1 << 28  // VIRTIO_F_INDIRECT_DESC
    /// Each side publishes the index at which it requests the next notification.
    public static let eventIndex: UInt64 = 1 << 29  // VIRTIO_F_EVENT_IDX
    /// The device follows version 1 of the specification. The VMM supports no other.
    public static let version1: UInt64 = 1 << 32  // VIRTIO_F_VERSION_1
}

/// Bits of the device status field (virtio 1.2, section 2.1).
public struct VirtioStatus: OptionSet, Sendable {
    /// The register's value.
    public let rawValue: UInt32

    /// Creates a status from the register's value.
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
    /// The device cannot continue without a reset.
    public static let needsReset = VirtioStatus(rawValue: 64)  // DEVICE_NEEDS_RESET
    /// The driver has given up.
    public static let failed = VirtioStatus(rawValue: 128)  // FAILED

    /// The bits that a driver may set.
    static let drivers: VirtioStatus = [.acknowledge, .driver, .driverOK, .featuresOK, .failed]
}

/// Why a device no longer serves a virtqueue: how the guest violated the specification.
public enum VirtqueueFault: String, Error, Sendable, Codable {
    /// The size is not a power of two, or larger than the device's.
    case badSize = "bad queue size"
    /// A ring is misaligned or does not lie in memory.
    case badRingAddress = "ring misaligned or outside memory"
    /// The available index advanced by more than the queue's size.
    case availableIndexJumped = "available index jumped"
    /// A head or next index is outside the descriptor table.
    case descriptorOutOfRange = "descriptor index out of range"
    /// A chain has more descriptors than the queue, or with an indirect table than the largest queue of the device: a loop, most likely.
    case chainTooLong = "descriptor chain too long"
    /// An indirect table has an invalid length or address, is nested, was not negotiated, or has a next descriptor.
    case badIndirectTable = "bad indirect table"
    /// A buffer does not lie in memory.
    case badBufferAddress = "buffer outside memory"
    /// A buffer for the device to read follows one for it to write.
    case readableAfterWritable = "readable buffer after a writable one"
    /// A chain of more than 4 GiB.
    case chainTooLarge = "descriptor chain of more than 4 GiB"
    /// The chain lacks a part that the device needs to answer.
    case malformedRequest = "malformed request"
}
