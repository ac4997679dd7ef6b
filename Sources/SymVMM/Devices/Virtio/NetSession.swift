// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// A network interface from activation to stop: moves frames between the tap and the queues.
///
/// `start` and `stop` run on a vCPU's thread; all else on the I/O thread only, after `start` has added and before `stop` has removed the
/// descriptors, so that the state needs no lock.
@safe final class NetSession: @unchecked Sendable {
    /// The largest frame with its header: 64 KiB of segments to merge, and Ethernet's own with a VLAN tag.
    private static let frameRoom = TapInterface.headerSize + 18 + (64 << 10)
    /// Frames moved before others on the thread have their turn.
    private static let batch = 128

    private let device: VirtioNet
    private let receiving: Virtqueue
    private let transmitting: Virtqueue
    private let thread: IOThread
    private let isMerging: Bool
    private let takesOffload: Bool
    private let takesSegments: Bool

    private let first = DescriptorChain()
    private let next = DescriptorChain()
    private let sent = DescriptorChain()
    private let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: NetSession.frameRoom, alignment: 8)
    /// Bytes in `frame` that the guest had no buffers for; 0 when there is none.
    private var pending = 0
    private var isPaused = false

    private enum Source { case tap, receiveDoorbell, transmitDoorbell }

    private enum Delivery {
        case done
        case dropped
        /// The guest's buffers, this many chains, are too few.
        case noBuffers(seen: UInt16)
    }

    init(device: VirtioNet, receiving: Virtqueue, transmitting: Virtqueue, features: UInt64, thread: IOThread) {
        self.device = device
        self.receiving = receiving
        self.transmitting = transmitting
        self.thread = thread
        isMerging = features & NetFeature.mergeableBuffers != 0
        takesOffload = features & NetFeature.guestChecksum != 0
        takesSegments = features & (NetFeature.guestSegmentation4 | NetFeature.guestSegmentation6) != 0
    }

    deinit {
        // SAFETY: allocated with the object, and no handler is left that uses it.
        unsafe frame.deallocate()
    }

    func start() throws(KVMError) {
        // Frames from before the guest listened are of no use to it, and may have offloads that it has not agreed to.
        for _ in 0..<4096 { if unsafe (device.tap.receive(into: frame) ?? 0) == 0 { break } }
        try thread.add(receiving.notifier.descriptor, .readable, handler: Handler(self, .receiveDoorbell))
        try thread.add(transmitting.notifier.descriptor, .readable, handler: Handler(self, .transmitDoorbell))
        try thread.add(device.tap.descriptor.rawValue, .readable, handler: Handler(self, .tap))
        // What was added before the device was live.
        transmitting.notifier.ring()
    }

    func stop() {
        thread.remove(device.tap.descriptor.rawValue)
        thread.remove(receiving.notifier.descriptor)
        thread.remove(transmitting.notifier.descriptor)
    }

    private final class Handler: IOHandler, @unchecked Sendable {
        private let session: NetSession
        private let source: Source

        init(_ session: NetSession, _ source: Source) {
            self.session = session
            self.source = source
        }

        override func ready(_ events: IOEvents) {
            switch source {
            case .tap: if events.contains(.readable) { session.receive() } else { session.loseTap() }
            case .receiveDoorbell: session.resume()
            case .transmitDoorbell: session.transmit()
            }
        }
    }

    // MARK: From the tap to the guest

    /// Delivers frames until the tap is empty, the guest is out of buffers, or others wait.
    private func receive() {
        receiving.disableNotifications()
        for _ in 0..<NetSession.batch {
            if pending == 0 {
                guard let bytes = unsafe device.tap.receive(into: frame) else { break }
                guard bytes > 0 else {
                    loseTap()
                    break
                }
                pending = bytes
            }
            switch deliver() {
            case .done:
                device.tally.receivedFrames.wrappingAdd(1, ordering: .relaxed)
                device.tally.receivedBytes.wrappingAdd(UInt64(pending - TapInterface.headerSize), ordering: .relaxed)
            case .dropped:
                device.tally.receiveDrops.wrappingAdd(1, ordering: .relaxed)
            case .noBuffers(let seen):
                // More may have come since; else the guest rings when it adds some, and the tap's queue holds the frames till then.
                if receiving.enableNotifications(beyond: seen) { continue }
                pause()
                receiving.interruptIfWanted()
                return
            }
            pending = 0
        }
        if pending > 0 {
            pause()
            receiving.notifier.ring()
        }
        receiving.interruptIfWanted()
    }

    /// The guest has added buffers.
    private func resume() {
        receiving.notifier.wait()
        guard isPaused else { return }
        isPaused = false
        try? thread.modify(device.tap.descriptor.rawValue, .readable)
        receive()
    }

    private func pause() {
        guard !isPaused else { return }
        isPaused = true
        device.tally.receivePauses.wrappingAdd(1, ordering: .relaxed)
        try? thread.modify(device.tap.descriptor.rawValue, [])
    }

    /// The interface was deleted: its descriptor would be ready for ever.
    private func loseTap() {
        device.tally.tapLosses.wrappingAdd(1, ordering: .relaxed)
        thread.remove(device.tap.descriptor.rawValue)
    }

    /// Copies the pending frame into as many chains as it needs, and shows them to the guest at once (virtio 1.2, section 5.1.6.4).
    private func deliver() -> Delivery {
        guard prepareHeader() else { return .dropped }
        var copied = 0
        var chains: UInt16 = 0
        while copied < pending {
            let chain = chains == 0 ? first : next
            guard receiving.pop(into: chain) else {
                receiving.rollBack(popped: chains)
                // All that the queue can hold is too little for this frame: no use in waiting.
                return chains == receiving.layout.size ? .dropped : .noBuffers(seen: chains)
            }
            chains += 1
            guard chain.writable.byteCount >= (chains == 1 ? TapInterface.headerSize : 1) else {
                receiving.markBroken(.malformedRequest)
                return .dropped
            }
            // SAFETY: copied < pending, which is at most the buffer's size.
            let rest = unsafe UnsafeRawBufferPointer(rebasing: frame[copied..<pending])
            let bytes = unsafe chain.writable.copy(from: rest)
            receiving.stage(chain, written: bytes)
            copied += bytes
            guard isMerging || copied == pending else {
                receiving.rollBack(popped: chains)
                return .dropped
            }
        }
        first.writable.dropFirst(10)
        var count = chains.littleEndian
        // SAFETY: the variable outlives the call.
        unsafe withUnsafeBytes(of: &count) { _ = unsafe first.writable.copy(from: $0) }  // num_buffers
        receiving.publish()
        return .done
    }

    /// Makes the header one that the guest has agreed to; false when the frame needs what it has not.
    private func prepareHeader() -> Bool {
        guard pending >= TapInterface.headerSize else { return false }
        // SAFETY: the header's 12 bytes are there: flags, gso_type, ... num_buffers.
        if unsafe frame[1] != 0, !takesSegments { return false }
        if !takesOffload { unsafe frame[0] = 0 }
        unsafe frame.storeBytes(of: UInt16(1).littleEndian, toByteOffset: 10, as: UInt16.self)
        return true
    }

    // MARK: From the guest to the tap

    private func transmit() {
        transmitting.notifier.wait()
        transmitting.disableNotifications()
        var left = NetSession.batch
        while left > 0, transmitting.pop(into: sent) {
            left -= 1
            let bytes = sent.readable.byteCount
            // The host checks the header and the length; what it refuses, or has no room for, is lost as on any wire.
            if bytes > TapInterface.headerSize, bytes <= NetSession.frameRoom, device.tap.send(sent.readable) {
                device.tally.sentFrames.wrappingAdd(1, ordering: .relaxed)
                device.tally.sentBytes.wrappingAdd(UInt64(bytes - TapInterface.headerSize), ordering: .relaxed)
            } else {
                device.tally.sendDrops.wrappingAdd(1, ordering: .relaxed)
            }
            transmitting.push(sent, written: 0)
        }
        transmitting.interruptIfWanted()
        if left == 0 || transmitting.enableNotifications() { transmitting.notifier.ring() }
    }
}
