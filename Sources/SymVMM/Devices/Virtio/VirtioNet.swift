// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase
internal import VMMModel

/// A network interface (virtio 1.2, section 5.1) on a tap device of the host; one pair of queues, served by the shared I/O thread.
final class VirtioNet: VirtioDevice, @unchecked Sendable {
    /// The guest's address on the link.
    let mac: MACAddress

    let tap: TapInterface
    let tally = NetCounters()
    private let thread: IOThread
    private let session = Mutex<NetSession?>(nil)

    /// Attaches to the tap.
    ///
    /// - Parameters:
    ///   - configuration: the interface; without an address it gets one derived from both names, the same on every start.
    ///   - machineName: name of the VM.
    ///   - thread: where frames are moved.
    /// - Throws: `KVMError` with advice when the tap is not there, is in use, or is none.
    init(configuration: NetworkInterfaceConfiguration, machineName: String, on thread: IOThread) throws(KVMError) {
        let mac = configuration.mac ?? MACAddress(derivedFrom: "\(machineName)/\(configuration.id)")
        let tap = try TapInterface(name: configuration.tap)
        var features = NetFeature.mac | NetFeature.status | NetFeature.mergeableBuffers | NetFeature.checksum
        features |= NetFeature.hostSegmentation4 | NetFeature.hostSegmentation6
        if tap.canOffload {
            features |= NetFeature.guestChecksum | NetFeature.guestSegmentation4 | NetFeature.guestSegmentation6
        }
        self.mac = mac
        self.tap = tap
        self.thread = thread
        // struct virtio_net_config: mac, status (link up).
        super.init(
            name: "virtio-net.\(configuration.id)", deviceType: 1, features: features, queueSizes: [256, 256],
            configuration: mac.bytes + [1, 0])
    }

    /// Segmentation needs checksums on its side (virtio 1.2, section 5.1.3.1).
    override func accepts(_ features: UInt64) -> Bool {
        let guests = NetFeature.guestSegmentation4 | NetFeature.guestSegmentation6
        let hosts = NetFeature.hostSegmentation4 | NetFeature.hostSegmentation6
        return (features & guests == 0 || features & NetFeature.guestChecksum != 0)
            && (features & hosts == 0 || features & NetFeature.checksum != 0)
    }

    /// Begins to move frames.
    override func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(KVMError) {
        guard queues.count == 2, let receiving = queues[0], let transmitting = queues[1] else { return }
        var offload: TapOffload = []
        if features & NetFeature.guestChecksum != 0 { offload.insert(.checksum) }
        if features & NetFeature.guestSegmentation4 != 0 { offload.insert(.segmentation4) }
        if features & NetFeature.guestSegmentation6 != 0 { offload.insert(.segmentation6) }
        if tap.canOffload { try tap.setOffload(offload) }
        let made = NetSession(device: self, receiving: receiving, transmitting: transmitting, features: features, thread: thread)
        session.withLock { $0 = made }
        try made.start()
    }

    /// Moves frames no longer.
    override func stop() {
        let ended = session.withLock { session in
            let running = session
            session = nil
            return running
        }
        ended?.stop()
        if tap.canOffload { try? tap.setOffload([]) }
    }

    /// Frames and bytes in both directions (the guest's view), and what was dropped and why.
    override func counters() -> [(name: String, value: UInt64)] {
        tally.values()
    }
}

/// Feature bits of a network device (virtio 1.2, section 5.1.3).
enum NetFeature {
    static let checksum: UInt64 = 1 << 0  // VIRTIO_NET_F_CSUM
    static let guestChecksum: UInt64 = 1 << 1  // VIRTIO_NET_F_GUEST_CSUM
    static let mac: UInt64 = 1 << 5  // VIRTIO_NET_F_MAC
    static let guestSegmentation4: UInt64 = 1 << 7  // VIRTIO_NET_F_GUEST_TSO4
    static let guestSegmentation6: UInt64 = 1 << 8  // VIRTIO_NET_F_GUEST_TSO6
    static let hostSegmentation4: UInt64 = 1 << 11  // VIRTIO_NET_F_HOST_TSO4
    static let hostSegmentation6: UInt64 = 1 << 12  // VIRTIO_NET_F_HOST_TSO6
    static let mergeableBuffers: UInt64 = 1 << 15  // VIRTIO_NET_F_MRG_RXBUF
    static let status: UInt64 = 1 << 16  // VIRTIO_NET_F_STATUS
}

/// What a network interface counts. Written by the I/O thread, read by anybody.
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
