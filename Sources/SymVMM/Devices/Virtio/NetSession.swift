// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// Moves frames between the tap and the queues, from a network device's activation to its stop.
///
/// Everything runs on the I/O thread, so the state needs no lock.
@safe final class NetSession: @unchecked Sendable {
    /// Bytes of an Ethernet header with a VLAN tag.
    private static let linkHeader = 18
    /// Bytes of the largest frame with all headers: 64 KiB of segmentation offload, Ethernet with a VLAN tag, virtio_net_hdr.
    private static let frameRoom = TapInterface.headerSize + linkHeader + (64 << 10)
    /// Frames moved before the thread serves other descriptors.
    private static let batch = 128

    private let device: VirtioNet
    private let receiving: Virtqueue
    private let transmitting: Virtqueue
    private let thread: IOThread
    private let isMerging: Bool
    private let features: UInt64
    private let takesOffload: Bool
    private let takesSegments: Bool
    /// Bytes of the largest frame that is not to be segmented, with all headers.
    private let frameLimit: Int

    private let first = DescriptorChain()
    private let next = DescriptorChain()
    private let sent = DescriptorChain()
    private let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: NetSession.frameRoom, alignment: 8)
    /// Bytes of the frame in `frame` for which the guest had no buffers; 0 if there is none.
    private var pending = 0
    /// The frame in `frame` has its tokens.
    private var isPaid = false
    /// The guest has no buffers.
    private var isPaused = false
    /// The frame in `frame` waits for tokens.
    private var isThrottled = false
    /// The guest's next frame waits for tokens.
    private var isSendThrottled = false
    /// The tap was deleted. Only the responder's frames still come.
    private var isTapLost = false
    private var alarms: (receive: Handler, transmit: Handler, responder: Handler)?
    /// A frame for the responder, without its virtio header; empty without a responder.
    private let taken: UnsafeMutableRawBufferPointer

    private enum Source { case tap, receiveDoorbell, transmitDoorbell, responder }

    private enum Delivery {
        case done
        case dropped
        /// The guest's available chains, this many, are too small for the frame.
        case noBuffers(seen: UInt16)
    }

    init(device: VirtioNet, receiving: Virtqueue, transmitting: Virtqueue, features: UInt64, thread: IOThread) {
        self.device = device
        self.receiving = receiving
        self.transmitting = transmitting
        self.thread = thread
        self.features = features
        isMerging = features & NetFeature.mergeableBuffers != 0
        takesOffload = features & NetFeature.guestChecksum != 0
        takesSegments = features & (NetFeature.guestSegmentation4 | NetFeature.guestSegmentation6) != 0
        let mtu = features & NetFeature.mtu == 0 ? nil : device.mtu
        frameLimit = mtu.map { TapInterface.headerSize + NetSession.linkHeader + Int($0) } ?? NetSession.frameRoom
        unsafe taken = .allocate(byteCount: device.responder == nil ? 0 : NetSession.frameRoom, alignment: 8)
    }

    deinit {
        // SAFETY: the object allocated the buffers, and no handler uses them any more.
        unsafe frame.deallocate()
        unsafe taken.deallocate()
    }

    func start() throws(VMMError) {
        // Drop the frames from before the activation: they may use offloads that the guest has not negotiated.
        // SAFETY: receive(into:) writes at most the length of the buffer.
        for _ in 0..<4096 { if unsafe (device.tap.receive(into: frame) ?? 0) == 0 { break } }
        try thread.add(receiving.notifier.descriptor, .readable, handler: Handler(self, .receiveDoorbell))
        try thread.add(transmitting.notifier.descriptor, .readable, handler: Handler(self, .transmitDoorbell))
        try thread.add(device.tap.descriptor.rawValue, .readable, handler: Handler(self, .tap))
        alarms = (Handler(self, .tap), Handler(self, .transmitDoorbell), Handler(self, .responder))
        device.responder?.reset()
        // Serve buffers that the guest added before the device was live.
        transmitting.notifier.ring()
    }

    func stop() {
        if let alarms {
            thread.setAlarm(alarms.receive, at: nil)
            thread.setAlarm(alarms.transmit, at: nil)
            thread.setAlarm(alarms.responder, at: nil)
        }
        alarms = nil
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
            case .transmitDoorbell: session.handleTransmitDoorbell()
            case .responder: break
            }
        }

        override func alarm() {
            switch source {
            case .tap: session.endReceiveThrottle()
            case .transmitDoorbell: session.endSendThrottle()
            case .responder: session.receive()
            case .receiveDoorbell: break
            }
        }
    }

    // MARK: From the tap to the guest

    /// Delivers frames until the tap is empty, the guest has no buffers, or the batch is complete.
    private func receive() {
        guard !isThrottled, !isPaused else { return }
        defer { setResponderAlarm() }
        receiving.disableNotifications()
        for _ in 0..<NetSession.batch {
            if pending == 0 {
                // SAFETY: takeAnswer() and receive(into:) write at most the length of the buffer.
                guard let bytes = unsafe takeAnswer() ?? device.tap.receive(into: frame) else { break }
                guard bytes > 0 else {
                    loseTap()
                    break
                }
                pending = bytes
                isPaid = false
            }
            guard payForPending() else { break }
            switch deliver() {
            case .done:
                device.tally.receivedFrames.wrappingAdd(1, ordering: .relaxed)
                device.tally.receivedBytes.wrappingAdd(UInt64(pending - TapInterface.headerSize), ordering: .relaxed)
            case .dropped:
                device.tally.receiveDrops.wrappingAdd(1, ordering: .relaxed)
            case .noBuffers(let seen):
                // The guest may have added buffers meanwhile. If not, it rings when it adds some; until then frames stay in the tap's queue.
                if receiving.enableNotifications(beyond: seen) { continue }
                pause()
                receiving.interruptIfWanted()
                return
            }
            pending = 0
        }
        if pending > 0, !isThrottled {
            pause()
            receiving.notifier.ring()
        }
        receiving.interruptIfWanted()
    }

    /// The responder's next frame with an empty virtio header, in `frame`; nil if there is none.
    private func takeAnswer() -> Int? {
        guard let responder = device.responder else { return nil }
        let end = TapInterface.headerSize + FrameResponder.frameByteLimit
        // SAFETY: the buffer is longer than the header and the longest frame.
        let room = unsafe UnsafeMutableRawBufferPointer(rebasing: frame[TapInterface.headerSize..<end])
        let bytes = unsafe min(responder.next(into: room), room.count)
        guard bytes > 0 else { return nil }
        for index in 0..<TapInterface.headerSize { unsafe frame[index] = 0 }
        return TapInterface.headerSize + bytes
    }

    private func setResponderAlarm() {
        guard let responder = device.responder, let alarms else { return }
        // Frames that a batch had no place for come soon; a frame that waits for buffers or tokens comes with those.
        thread.setAlarm(alarms.responder, at: responder.hasNext ? TickClock.monotonicNanoseconds() &+ 1_000_000 : responder.deadline)
    }

    /// Handles a notification: the guest has added buffers.
    private func resume() {
        receiving.notifier.wait()
        guard isPaused else { return }
        isPaused = false
        listen()
        receive()
    }

    /// Takes the tokens of the frame in `frame`. False if it has to wait; an alarm then continues.
    private func payForPending() -> Bool {
        if isPaid { return true }
        guard let time = device.receiveLimiter.take(bytes: UInt64(max(0, pending - TapInterface.headerSize))) else {
            isPaid = true
            return true
        }
        device.receiveLimiter.countThrottled()
        isThrottled = true
        listen()
        if let alarms { thread.setAlarm(alarms.receive, at: time) }
        return false
    }

    private func endReceiveThrottle() {
        guard isThrottled else { return }
        isThrottled = false
        listen()
        if !isPaused { receive() }
    }

    /// Polls the tap unless the next frame has to wait. Frames then stay in the tap's queue, and the host drops those that it has no room for.
    private func listen() {
        try? thread.modify(device.tap.descriptor.rawValue, isPaused || isThrottled ? [] : .readable)
    }

    /// The limits have changed: tries again at once.
    func limitsChanged() {
        if let alarms {
            thread.setAlarm(alarms.receive, at: nil)
            thread.setAlarm(alarms.transmit, at: nil)
        }
        endReceiveThrottle()
        endSendThrottle()
    }

    private func pause() {
        guard !isPaused else { return }
        isPaused = true
        device.tally.receivePauses.wrappingAdd(1, ordering: .relaxed)
        listen()
    }

    /// The tap was deleted: stops polling its descriptor, which would stay ready.
    private func loseTap() {
        guard !isTapLost else { return }
        isTapLost = true
        device.tally.tapLosses.wrappingAdd(1, ordering: .relaxed)
        thread.remove(device.tap.descriptor.rawValue)
    }

    /// Copies the pending frame into as many chains as it needs, and publishes them together (virtio 1.2, section 5.1.6.4).
    private func deliver() -> Delivery {
        guard prepareHeader() else { return .dropped }
        var copied = 0
        var chains: UInt16 = 0
        while copied < pending {
            let chain = chains == 0 ? first : next
            // A guest that goes on raising the available index gives the device more chains than the queue has.
            guard chains < receiving.layout.size, receiving.pop(into: chain) else {
                receiving.rollBack(popped: chains)
                // The whole queue is too small for this frame, so waiting does not help.
                return chains == receiving.layout.size ? .dropped : .noBuffers(seen: chains)
            }
            chains += 1
            guard chain.writable.byteCount >= (chains == 1 ? TapInterface.headerSize : 1) else {
                receiving.markBroken(.malformedRequest)
                return .dropped
            }
            // SAFETY: copied < pending, and pending is at most the buffer's size.
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

    /// Clears header fields that the guest has not negotiated. Returns false if the frame needs a feature that the guest lacks, or is longer than the
    /// guest's MTU (virtio 1.2, section 5.1.4.1).
    private func prepareHeader() -> Bool {
        guard pending >= TapInterface.headerSize else { return false }
        // SAFETY: the frame begins with the header's 12 bytes: flags, gso_type, ... num_buffers.
        guard unsafe frame[1] == 0 ? pending <= frameLimit : takesSegments else { return false }
        if !takesOffload { unsafe frame[0] = 0 }
        unsafe frame.storeBytes(of: UInt16(1).littleEndian, toByteOffset: 10, as: UInt16.self)
        return true
    }

    // MARK: From the guest to the tap

    private func handleTransmitDoorbell() {
        transmitting.notifier.wait()
        if !isSendThrottled { transmit() }
    }

    private func endSendThrottle() {
        guard isSendThrottled else { return }
        isSendThrottled = false
        transmit()
    }

    /// Takes the guest's next frame when it has its tokens. If it has to wait, it stays in the guest's ring, and an alarm continues.
    private func takeFrame() -> Bool {
        let limiter = device.transmitLimiter
        guard limiter.isLimited else { return transmitting.pop(into: sent) }
        guard let position = transmitting.peek(into: sent) else { return false }
        guard let time = limiter.take(bytes: UInt64(max(0, sent.readable.byteCount - TapInterface.headerSize))) else {
            return transmitting.take(at: position)
        }
        limiter.countThrottled()
        isSendThrottled = true
        if let alarms { thread.setAlarm(alarms.transmit, at: time) }
        return false
    }

    private func transmit() {
        transmitting.disableNotifications()
        var left = NetSession.batch
        while left > 0, takeFrame() {
            left -= 1
            let bytes = sent.readable.byteCount
            if sendFrame() {
                device.tally.sentFrames.wrappingAdd(1, ordering: .relaxed)
                device.tally.sentBytes.wrappingAdd(UInt64(bytes - TapInterface.headerSize), ordering: .relaxed)
            } else {
                device.tally.sendDrops.wrappingAdd(1, ordering: .relaxed)
            }
            transmitting.push(sent, written: 0)
        }
        transmitting.interruptIfWanted()
        if device.responder?.hasNext == true { receive() }
        if isSendThrottled { return }
        if left == 0 || transmitting.enableNotifications() { transmitting.notifier.ring() }
    }

    /// Sends the frame in `sent` with a checked copy of its header, which the guest cannot change afterwards.
    ///
    /// - Returns: false if it is malformed, or if the host rejects it or has no room for it.
    private func sendFrame() -> Bool {
        let bytes = sent.readable.byteCount
        guard sent.writable.byteCount == 0, bytes > TapInterface.headerSize, bytes <= NetSession.frameRoom else { return false }
        var header = NetHeader()
        // SAFETY: a header consists of integers, so any bytes are a valid value.
        unsafe withUnsafeMutableBytes(of: &header) { _ = unsafe sent.readable.copy(to: $0) }
        guard header.prepare(features: features, frameByteCount: bytes - TapInterface.headerSize) else { return false }
        if let responder = device.responder, giveFrame(to: responder, header, bytes) { return true }
        // SAFETY: the header outlives the call, and writev only reads it.
        return unsafe withUnsafeMutableBytes(of: &header) { copy in
            unsafe sent.readable.replaceFirst(with: copy)
            return device.tap.send(sent.readable)
        }
    }

    /// Gives the frame in `sent` to the responder if it takes it.
    private func giveFrame(to responder: FrameResponder, _ header: NetHeader, _ bytes: Int) -> Bool {
        let start = TapInterface.headerSize
        // SAFETY: the buffer has room for the longest frame, and `bytes` is at most that long. The copy is what the responder sees: the guest cannot
        // change it.
        let head = unsafe UnsafeMutableRawBufferPointer(rebasing: taken[0..<min(bytes, start + FrameResponder.startByteCount)])
        unsafe sent.readable.copy(to: head)
        guard unsafe responder.takes(UnsafeRawBufferPointer(rebasing: head[start...])) else { return false }
        let whole = unsafe UnsafeMutableRawBufferPointer(rebasing: taken[0..<bytes])
        unsafe sent.readable.copy(to: whole)
        unsafe responder.handle(UnsafeRawBufferPointer(rebasing: whole[start...]), isChecked: !header.needsChecksum)
        return true
    }
}
