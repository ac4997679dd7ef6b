// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase
internal import VMMModel

/// A network interface (virtio 1.2, section 5.1) on a tap device of the host; one pair of queues, served by the shared I/O thread.
final class VirtioNet: VirtioDevice, @unchecked Sendable {
    /// The guest's MAC address.
    let mac: MACAddress
    /// The largest packet in bytes, without the Ethernet header; nil: the guest is told none.
    let mtu: UInt16?

    let tap: TapInterface
    let tally = NetCounters()
    /// Limits what the guest receives.
    let receiveLimiter: RateLimiter
    /// Limits what the guest sends.
    let transmitLimiter: RateLimiter
    /// Answers some of the guest's frames; nil: all go to the tap.
    let responder: FrameResponder?
    private let thread: IOThread
    private let session = Mutex<NetSession?>(nil)

    /// Attaches to the tap.
    ///
    /// - Parameters:
    ///   - configuration: the interface; without a MAC address it gets one derived from both names, the same at every start.
    ///   - machineName: name of the VM.
    ///   - responder: answers some of the guest's frames.
    ///   - thread: the thread that moves frames.
    /// - Throws: `VMMError` with advice if the interface does not exist, is in use, or is not a tap.
    convenience init(
        configuration: NetworkInterfaceConfiguration, machineName: String, responder: FrameResponder? = nil, on thread: IOThread
    )
        throws(VMMError)
    {
        let mac = configuration.mac ?? MACAddress(derivedFrom: "\(machineName)/\(configuration.id)")
        self.init(
            id: configuration.id, mac: mac, tap: try TapInterface(name: configuration.tap), mtu: configuration.mtu,
            receiveLimiter: configuration.receiveLimiter, transmitLimiter: configuration.transmitLimiter, responder: responder,
            on: thread)
    }

    /// Creates the device on an open tap.
    init(
        id: String, mac: MACAddress, tap: consuming TapInterface, mtu: UInt16? = nil, receiveLimiter: RateLimiterConfiguration? = nil,
        transmitLimiter: RateLimiterConfiguration? = nil, responder: FrameResponder? = nil, on thread: IOThread
    ) {
        var features = NetFeature.mac | NetFeature.status | NetFeature.mergeableBuffers | NetFeature.checksum
        features |= NetFeature.hostSegmentation4 | NetFeature.hostSegmentation6
        if tap.canOffload {
            features |= NetFeature.guestChecksum | NetFeature.guestSegmentation4 | NetFeature.guestSegmentation6
        }
        if mtu != nil { features |= NetFeature.mtu }
        self.mac = mac
        self.mtu = mtu
        self.responder = responder
        self.tap = tap
        self.thread = thread
        self.receiveLimiter = RateLimiter(receiveLimiter)
        self.transmitLimiter = RateLimiter(transmitLimiter)
        // struct virtio_net_config: mac, status (link up), max_virtqueue_pairs (not offered), mtu.
        let extent: [UInt8] = mtu.map { [0, 0, UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] } ?? []
        super.init(
            name: VirtioNet.name(id: id), deviceType: 1, features: features, queueSizes: [256, 256],
            configuration: mac.bytes + [1, 0] + extent)
    }

    /// The device's name.
    static func name(id: String) -> String {
        "virtio-net.\(id)"
    }

    /// Segmentation offload requires checksum offload in the same direction (virtio 1.2, section 5.1.3.1).
    override func accepts(_ features: UInt64) -> Bool {
        let guests = NetFeature.guestSegmentation4 | NetFeature.guestSegmentation6
        let hosts = NetFeature.hostSegmentation4 | NetFeature.hostSegmentation6
        return (features & guests == 0 || features & NetFeature.guestChecksum != 0)
            && (features & hosts == 0 || features & NetFeature.checksum != 0)
    }

    /// Starts moving frames. The I/O thread does it, so that no vCPU makes system calls on the tap.
    override func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(VMMError) {
        guard queues.count == 2, let receiving = queues[0], let transmitting = queues[1] else { return }
        let made = NetSession(device: self, receiving: receiving, transmitting: transmitting, features: features, thread: thread)
        session.withLock { $0 = made }
        let failure = Monitor<VMMError?>(nil)
        thread.perform { [self] in
            do throws(VMMError) {
                if tap.canOffload { try tap.setOffload(VirtioNet.offload(features)) }
                try made.start()
            } catch {
                failure.withLock { $0 = error }
            }
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
    }

    /// The offloads of frames for the guest that it has negotiated.
    private static func offload(_ features: UInt64) -> TapOffload {
        var offload: TapOffload = []
        if features & NetFeature.guestChecksum != 0 { offload.insert(.checksum) }
        if features & NetFeature.guestSegmentation4 != 0 { offload.insert(.segmentation4) }
        if features & NetFeature.guestSegmentation6 != 0 { offload.insert(.segmentation6) }
        return offload
    }

    /// Stops moving frames.
    override func stop() {
        let ended = session.withLock { session in
            let running = session
            session = nil
            return running
        }
        thread.perform { [self] in
            ended?.stop()
            if tap.canOffload { try? tap.setOffload([]) }
        }
    }

    /// Changes the limits. A bucket that a change lacks stays as it is; one without a limit removes the limit. Any thread but the I/O thread.
    func changeRateLimiters(receive: RateLimiterConfiguration?, transmit: RateLimiterConfiguration?) {
        if let receive { receiveLimiter.update(receive) }
        if let transmit { transmitLimiter.update(transmit) }
        thread.perform { [self] in session.withLock { $0 }?.limitsChanged() }
    }

    /// Frames and bytes in both directions (as the guest sees them), dropped frames by reason, and frames that waited for tokens.
    override func counters() -> [(name: String, value: UInt64)] {
        tally.values() + [("rx_throttled", receiveLimiter.throttledCount), ("tx_throttled", transmitLimiter.throttledCount)]
            + (responder?.counters() ?? [])
    }
}

/// Feature bits of a network device (virtio 1.2, section 5.1.3).
enum NetFeature {
    static let checksum: UInt64 = 1 << 0  // VIRTIO_NET_F_CSUM
    static let guestChecksum: UInt64 = 1 << 1  // VIRTIO_NET_F_GUEST_CSUM
    static let mtu: UInt64 = 1 << 3  // VIRTIO_NET_F_MTU
    static let mac: UInt64 = 1 << 5  // VIRTIO_NET_F_MAC
    static let guestSegmentation4: UInt64 = 1 << 7  // VIRTIO_NET_F_GUEST_TSO4
    static let guestSegmentation6: UInt64 = 1 << 8  // VIRTIO_NET_F_GUEST_TSO6
    static let hostSegmentation4: UInt64 = 1 << 11  // VIRTIO_NET_F_HOST_TSO4
    static let hostSegmentation6: UInt64 = 1 << 12  // VIRTIO_NET_F_HOST_TSO6
    static let mergeableBuffers: UInt64 = 1 << 15  // VIRTIO_NET_F_MRG_RXBUF
    static let status: UInt64 = 1 << 16  // VIRTIO_NET_F_STATUS
}

/// A network interface's counters. The I/O thread writes them, any thread reads them.
final class NetCounters: Sendable {
    let receivedFrames = Atomic<UInt64>(0)
    let receivedBytes = Atomic<UInt64>(0)
    let receiveDrops = Atomic<UInt64>(0)
    let receivePauses = Atomic<UInt64>(0)
    let sentFrames = Atomic<UInt64>(0)
    let sentBytes = Atomic<UInt64>(0)
    let sendDrops = Atomic<UInt64>(0)
    let tapLosses = Atomic<UInt64>(0)

    func values() -> [(name: String, value: UInt64)] {
        [
            ("rx_frames", receivedFrames.load(ordering: .relaxed)),
            ("rx_bytes", receivedBytes.load(ordering: .relaxed)),
            ("rx_dropped", receiveDrops.load(ordering: .relaxed)),
            ("rx_pauses", receivePauses.load(ordering: .relaxed)),
            ("tx_frames", sentFrames.load(ordering: .relaxed)),
            ("tx_bytes", sentBytes.load(ordering: .relaxed)),
            ("tx_dropped", sendDrops.load(ordering: .relaxed)),
            ("tap_lost", tapLosses.load(ordering: .relaxed)),
        ]
    }
}
