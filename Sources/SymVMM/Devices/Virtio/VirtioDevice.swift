// SPDX-License-Identifier: Apache-2.0

public import VMMBase

/// A virtio device behind a transport: what it offers, its configuration space, and its life.
///
///     idle -- activate --> active -- stop --> idle
///
/// The transport calls `activate` and `stop` in turn, one at a time, on a vCPU's thread or the machine's; it holds no lock that a register
/// access needs, so both may wait. Everything else may be called on any thread at any time.
open class VirtioDevice: @unchecked Sendable {
    /// The name in statistics and messages, for instance `virtio-blk.root`.
    public let name: String
    /// The device type (virtio 1.2, section 5): 1 network, 2 block, 4 entropy.
    public let deviceType: UInt32
    /// Feature bits of the type; the transport adds those of the rings.
    public let features: UInt64
    /// The largest size of each queue, a power of two of at most 256.
    public let queueSizes: [UInt16]
    private let configuration: [UInt8]

    /// Describes a device.
    ///
    /// - Parameter configuration: the configuration space, little-endian, at most 256 bytes.
    public init(name: String, deviceType: UInt32, features: UInt64, queueSizes: [UInt16], configuration: [UInt8]) {
        self.name = name
        self.deviceType = deviceType
        self.features = features
        self.queueSizes = queueSizes
        self.configuration = configuration
    }

    /// Reads the configuration space.
    ///
    /// - Parameters:
    ///   - offset: bytes from its start, as the guest gave it.
    ///   - size: 1, 2, 4 or 8 bytes.
    /// - Returns: the value; bytes behind the end read as ones.
    open func readConfiguration(offset: UInt64, size: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<min(max(size, 0), 8) {
            let place = offset &+ UInt64(index)
            let byte = place < UInt64(configuration.count) ? configuration[Int(place)] : 0xff
            value |= UInt64(byte) << UInt64(8 * index)
        }
        return value
    }

    /// Writes the configuration space. No field of the devices here is writable with the features they offer.
    open func writeConfiguration(offset: UInt64, size: Int, value: UInt64) {
    }

    /// Whether this subset of the offered features makes sense together.
    open func accepts(_ features: UInt64) -> Bool {
        true
    }

    /// Starts to serve the queues.
    ///
    /// - Parameters:
    ///   - queues: one for each of `queueSizes`; nil where the guest set none up.
    ///   - features: what both sides agreed on.
    ///   - interrupt: for changes of the configuration space; queues raise their own.
    open func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(KVMError) {
    }

    /// Stops to serve; returns when no request is in flight and the guest's memory will not be touched again.
    open func stop() {
    }

    /// What the device has counted since it was made, in the order to print.
    open func counters() -> [(name: String, value: UInt64)] {
        []
    }
}
