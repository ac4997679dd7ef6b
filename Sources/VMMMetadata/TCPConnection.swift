// SPDX-License-Identifier: Apache-2.0

/// The service's side of a TCP connection of the guest (RFC 9293): it is opened by the guest, takes requests and sends answers.
///
/// The guest is hostile. What a connection holds is bounded: a request of `MetadataRequest.byteLimit` bytes and one answer. Segments are taken in their
/// order only; the guest sends others again. The link loses nothing on its own, so the algorithms for congestion are left out.
struct TCPConnection {
    /// What the connection sends next.
    struct Output {
        let sequence: UInt32
        let acknowledgement: UInt32
        let flags: TCPSegment.Flags
        let window: UInt16
        let payload: ArraySlice<UInt8>
    }

    private enum Phase {
        case startReceived
        case established
        case over
    }

    /// Nanoseconds until unacknowledged bytes are sent again, and how often.
    private static let resendTime: UInt64 = 1_000_000_000
    private static let resendLimit = 10
    /// The largest segment to a guest that does not say what it takes (RFC 9293, 3.7.1), and the least that counts.
    private static let defaultSegment = 536

    let address: UInt32
    let port: UInt16
    /// When the guest last sent something, in nanoseconds of CLOCK_MONOTONIC.
    private(set) var lastUse: UInt64
    private var phase = Phase.startReceived
    private var receiveNext: UInt32
    /// The first sequence number that is not acknowledged, and the next to send.
    private var sendOldest: UInt32
    private var sendNext: UInt32
    /// The sequence number after all that was ever sent: what is sent again may be acknowledged meanwhile.
    private var sendMost: UInt32
    /// That of the end, once it was sent.
    private var endSequence: UInt32?
    private var peerWindow: UInt32
    private let segmentSize: Int
    private var inbox: [UInt8] = []
    /// Bytes from `sendOldest` on.
    private var outbox: [UInt8] = []
    private var mustSendStart = true
    private var mustAcknowledge = false
    private var peerHasEnded = false
    /// The connection ends when the outbox is empty.
    private var endsAfterOutbox = false
    private var hasSentEnd = false
    private var resendAt: UInt64?
    private var resends = 0

    /// The guest asks for a connection.
    ///
    /// - Parameters:
    ///   - segment: with the flag SYN alone.
    ///   - initial: the first sequence number, which the guest cannot guess.
    init(_ segment: TCPSegment, initial: UInt32, now: UInt64) {
        address = segment.source
        port = segment.sourcePort
        lastUse = now
        receiveNext = segment.sequence &+ 1
        sendOldest = initial
        sendNext = initial
        sendMost = initial
        peerWindow = UInt32(segment.window)
        segmentSize = min(max(Int(segment.segmentSize ?? 0), TCPConnection.defaultSegment), 1460)
    }

    /// Whether nothing is left to do.
    var isOver: Bool { phase == .over }

    /// Whether the connection has something to send at this time.
    func hasOutput(at now: UInt64) -> Bool {
        if isOver { return false }
        return mustSendStart || mustAcknowledge || isDue(now) || sendableCount > 0 || mustSendEnd
    }

    /// When to look again; nil: when the guest sends something.
    var deadline: UInt64? { isOver ? nil : resendAt }

    // MARK: From the guest

    /// Takes a segment of the guest, and answers complete requests.
    ///
    /// - Parameter answer: makes an answer to a request; nil for bytes that are no request.
    mutating func receive(_ segment: TCPSegment, now: UInt64, answer: (MetadataRequest?) -> [UInt8]) {
        if segment.flags.contains(.reset) {
            if segment.sequence == receiveNext { phase = .over }
            return
        }
        lastUse = now
        if segment.flags.contains(.start) {
            // The same request again, or one for a connection that exists: the guest learns what it is.
            if phase == .startReceived, segment.sequence &+ 1 == receiveNext { mustSendStart = true } else { mustAcknowledge = true }
            return
        }
        guard segment.flags.contains(.acknowledge), takeAcknowledgement(segment, now) else { return }
        guard phase == .established else { return }
        takePayload(segment)
        answerRequests(answer)
        if hasSentEnd, sendOldest == sendNext, peerHasEnded { phase = mustAcknowledge ? .established : .over }
    }

    /// Returns false for an acknowledgement of what was not sent.
    private mutating func takeAcknowledgement(_ segment: TCPSegment, _ now: UInt64) -> Bool {
        let count = segment.acknowledgement &- sendOldest
        guard count <= sendMost &- sendOldest else {
            // An old acknowledgement is no fault, and its payload counts.
            let isOld = Int32(bitPattern: segment.acknowledgement &- sendOldest) < 0
            if !isOld { mustAcknowledge = true }
            return isOld && phase == .established
        }
        peerWindow = UInt32(segment.window)
        guard count > 0 else { return true }
        var bytes = Int(count)
        if phase == .startReceived {
            phase = .established
            // The guest has the answer to its SYN, also if it had sent that twice.
            mustSendStart = false
            bytes -= 1
        }
        outbox.removeFirst(min(bytes, outbox.count))
        sendOldest = segment.acknowledgement
        if Int32(bitPattern: sendOldest &- sendNext) > 0 { sendNext = sendOldest }
        if let endSequence, sendOldest == endSequence &+ 1 { hasSentEnd = true }
        resends = 0
        resendAt = sendOldest == sendNext ? nil : now &+ TCPConnection.resendTime
        return true
    }

    private mutating func takePayload(_ segment: TCPSegment) {
        guard segment.length > 0 else { return }
        mustAcknowledge = true
        // Bytes before the next one are known already, and so is an end among them.
        let known = receiveNext &- segment.sequence
        guard known < segment.length, !peerHasEnded else { return }
        let new = segment.payload.dropFirst(min(Int(known), segment.payload.count))
        let room = endsAfterOutbox ? new.count : MetadataRequest.byteLimit - inbox.count
        let taken = new.prefix(max(0, room))
        if !endsAfterOutbox { inbox += taken }
        receiveNext &+= UInt32(truncatingIfNeeded: taken.count)
        if segment.flags.contains(.end), taken.count == new.count {
            receiveNext &+= 1
            peerHasEnded = true
        }
    }

    /// Answers one request after the other, each when the answer before is acknowledged, so that one answer is held.
    private mutating func answerRequests(_ answer: (MetadataRequest?) -> [UInt8]) {
        while outbox.isEmpty, !endsAfterOutbox {
            switch MetadataRequest.parse(inbox) {
            case .incomplete:
                if peerHasEnded { endsAfterOutbox = true }
                return
            case .invalid:
                outbox = answer(nil)
                endsAfterOutbox = true
                inbox = []
            case .complete(let request, let byteCount):
                inbox.removeFirst(min(byteCount, inbox.count))
                outbox = answer(request)
                if !request.keepsAlive { endsAfterOutbox = true }
            }
        }
    }

    // MARK: To the guest

    /// Bytes of the outbox that were sent.
    private var sentCount: Int {
        min(Int(sendNext &- sendOldest), outbox.count)
    }

    /// Bytes that can be sent now.
    private var sendableCount: Int {
        guard phase == .established, !hasSentEnd else { return 0 }
        return min(outbox.count - sentCount, max(0, Int(peerWindow) - sentCount), segmentSize)
    }

    private var mustSendEnd: Bool {
        phase == .established && endsAfterOutbox && !hasSentEnd && sentCount == outbox.count
    }

    private func isDue(_ now: UInt64) -> Bool {
        resendAt.map { now >= $0 } ?? false
    }

    /// The next segment to send; nil if there is none now.
    mutating func next(now: UInt64) -> Output? {
        guard !isOver else { return nil }
        if isDue(now), !resend(now) { return output(sendNext, [.reset, .acknowledge], []) }
        if mustSendStart {
            mustSendStart = false
            mustAcknowledge = false
            let sequence = sendOldest
            sendNext = sendOldest &+ 1
            sendMost = sendNext
            resendAt = now &+ TCPConnection.resendTime
            return output(sequence, [.start, .acknowledge], [])
        }
        // A guest without a window is asked with a byte whether it has one now.
        let count = sendableCount == 0 && isWaitingForWindow && isDue(now) ? 1 : sendableCount
        if count > 0 {
            let start = outbox.startIndex + sentCount
            let sequence = sendNext
            advance(UInt32(truncatingIfNeeded: count))
            resendAt = now &+ TCPConnection.resendTime
            return output(sequence, [.push, .acknowledge], outbox[start..<start + count])
        }
        if isWaitingForWindow, resendAt == nil { resendAt = now &+ TCPConnection.resendTime }
        if mustSendEnd {
            let sequence = sendNext
            hasSentEnd = true
            endSequence = sequence
            advance(1)
            resendAt = now &+ TCPConnection.resendTime
            return output(sequence, [.end, .acknowledge], [])
        }
        guard mustAcknowledge else { return nil }
        let answer = output(sendNext, [.acknowledge], [])
        if hasSentEnd, sendOldest == sendNext, peerHasEnded { phase = .over }
        return answer
    }

    private mutating func advance(_ count: UInt32) {
        sendNext &+= count
        if Int32(bitPattern: sendNext &- sendMost) > 0 { sendMost = sendNext }
    }

    private var isWaitingForWindow: Bool {
        phase == .established && !hasSentEnd && outbox.count > sentCount && Int(peerWindow) <= sentCount
    }

    /// Makes everything unacknowledged be sent again. Returns false when that was done often enough: the connection is over.
    private mutating func resend(_ now: UInt64) -> Bool {
        resends += 1
        guard resends <= TCPConnection.resendLimit else {
            phase = .over
            return false
        }
        if phase == .startReceived {
            mustSendStart = true
        } else if sendNext != sendOldest {
            hasSentEnd = false
            sendNext = sendOldest
        }
        resendAt = isWaitingForWindow ? now : nil
        return true
    }

    private mutating func output(_ sequence: UInt32, _ flags: TCPSegment.Flags, _ payload: ArraySlice<UInt8>) -> Output {
        mustAcknowledge = false
        let window = UInt16(clamping: max(0, MetadataRequest.byteLimit - inbox.count))
        return Output(sequence: sequence, acknowledgement: receiveNext, flags: flags, window: window, payload: payload)
    }
}
