// SPDX-License-Identifier: Apache-2.0

public import VMMBase

/// A virtio device behind a transport: its features, its configuration space, and its life cycle.
///
///     idle -- activate --> active -- stop --> idle
///
/// The transport calls `activate` and `stop` alternately, on a vCPU's thread or on the thread that controls the machine. It holds no lock that
/// a register access needs, so both may block. Any thread may call the other methods at any time.
open class VirtioDevice: @unchecked Sendable {
    /// The name in statistics and messages, for instance `virtio-blk.root`.
    public let name: String
    /// The device type (virtio 1.2, section 5): 1 network, 2 block, 4 entropy.
    public let deviceType: UInt32
    /// Feature bits of the device type. The transport adds those of the queues.
    public let features: UInt64
    /// The largest size of each queue, a power of two of at most 256.
    public let queueSizes: [UInt16]
    private let configuration: [UInt8]

    /// Describes a device.
    ///
    /// - Parameters:
    ///   - name: the device's name in statistics and messages.
    ///   - deviceType: the virtio device ID (virtio 1.2, section 5).
    ///   - features: the feature bits that the device offers, without those of the transport.
    ///   - queueSizes: the largest size of each queue, a power of two of at most 256.
    ///   - configuration: the configuration space, little-endian, at most 256 bytes.
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
    /// - Returns: the value; bytes beyond the end read as ones.
    open func readConfiguration(offset: UInt64, size: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<min(max(size, 0), 8) {
            let place = offset &+ UInt64(index)
            let byte = place < UInt64(configuration.count) ? configuration[Int(place)] : 0xff
            value |= UInt64(byte) << UInt64(8 * index)
        }
        return value
    }

    /// Bytes of the configuration space.
    public final var configurationByteCount: Int {
        configuration.count
    }

    /// Handles a write to the configuration space. Refuses it unless overridden: symvmm's devices have no writable field.
    ///
    /// - Returns: whether the field is writable. The transport counts the write as a bad access if it is not.
    open func writeConfiguration(offset: UInt64, size: Int, value: UInt64) -> Bool {
        false
    }

    /// Whether the device supports this combination of offered features.
    open func accepts(_ features: UInt64) -> Bool {
        true
    }

    /// Starts serving the queues.
    ///
    /// - Parameters:
    ///   - queues: one for each of `queueSizes`; nil if the guest has not set up the queue.
    ///   - features: the negotiated features.
    ///   - interrupt: notifies the guest of configuration changes. Queues raise their own interrupts.
    open func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(VMMError) {
    }

    /// Stops serving the queues. After it returns, no request is in flight and the device does not access guest memory.
    open func stop() {
    }

    /// The device's counters since its creation, in the order to print.
    open func counters() -> [(name: String, value: UInt64)] {
        []
    }
}
