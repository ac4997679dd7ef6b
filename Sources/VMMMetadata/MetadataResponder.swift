// SPDX-License-Identifier: Apache-2.0

package import SymVMM

internal import Synchronization
internal import VMMBase

/// The metadata service on a network interface: answers ARP requests for its address and TCP segments to its port 80. Firecracker's MMDS.
///
/// Everything that a guest can make it hold is bounded: connections, answers to ARP requests, resets. The interface's I/O thread makes all calls.
package final class MetadataResponder: FrameResponder, @unchecked Sendable {
    /// Most connections. A further one takes the place of one that the guest has not used for `idleTime`, or is refused.
    static let connectionLimit = 30
    /// Most frames of other kinds that wait for the guest's buffers.
    private static let waitingLimit = 32
    /// Nanoseconds.
    private static let idleTime: UInt64 = 40_000_000_000
    private static let port: UInt16 = 80
    /// The service's Ethernet address, locally administered.
    private static let hardwareAddress: [UInt8] = [0x06, 0x01, 0x23, 0x45, 0x67, 0x01]

    private enum EtherType {
        static let ip4: [UInt8] = [0x08, 0x00]
        static let arp: [UInt8] = [0x08, 0x06]
    }

    private struct Tally {
        var frames: UInt64 = 0
        var refused: UInt64 = 0
        var connections: UInt64 = 0
        var requests: UInt64 = 0
        var invalidRequests: UInt64 = 0
        var bytes: UInt64 = 0
    }

    private let address: UInt32
    private let service: MetadataService
    private let now: () -> UInt64
    /// Where the service's frames go: the sender of the guest's last frame.
    private var guestAddress = [UInt8](repeating: 0xff, count: 6)
    private var connections: [TCPConnection] = []
    /// The connection that sends first, so that each has its turn.
    private var turn = 0
    private var waiting: [[UInt8]] = []
    private var identification: UInt16 = 0
    private var tally = Tally()
    private let published = TallyBox()

    /// Makes the service of one interface.
    ///
    /// - Parameters:
    ///   - address: its IPv4 address, which the guest asks.
    ///   - store: its data, which all interfaces of a VM share.
    ///   - now: the time in nanoseconds of CLOCK_MONOTONIC, for tests.
    package init(
        address: UInt32, store: MetadataStore, now: @escaping () -> UInt64 = { TickClock.monotonicNanoseconds() }
    ) {
        self.address = address
        service = MetadataService(store: store)
        self.now = now
        super.init()
    }

    /// Whether a frame is an ARP request for the address, or an IPv4 packet to it.
    package override func takes(_ start: UnsafeRawBufferPointer) -> Bool {
        guard start.count >= 34 else { return false }
        // SAFETY: the offsets are below the count that each guard checks.
        let type = unsafe [start[12], start[13]]
        if type == EtherType.ip4 { return unsafe MetadataResponder.long(start, 30) == address }
        guard type == EtherType.arp, start.count >= 42 else { return false }
        return unsafe MetadataResponder.long(start, 38) == address
    }

    /// Handles an ARP request or an IPv4 packet.
    package override func handle(_ frame: UnsafeRawBufferPointer, isChecked: Bool) {
        tally.frames &+= 1
        defer { published.store(tally) }
        // SAFETY: the copy reads the buffer that the caller keeps for the call.
        let bytes = unsafe [UInt8](frame)
        guard bytes.count >= 34 else { return refuse() }
        guestAddress = Array(bytes[6..<12])
        if Array(bytes[12..<14]) == EtherType.arp { return handleARP(bytes) }
        guard let segment = TCPSegment(bytes, isChecked: isChecked) else { return refuse() }
        handle(segment)
    }

    /// Copies the next frame for the guest.
    package override func next(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        let frame: [UInt8]
        if !waiting.isEmpty {
            frame = waiting.removeFirst()
        } else if let segment = nextSegment() {
            frame = segment
        } else {
            return 0
        }
        guard frame.count <= buffer.count else { return 0 }
        // SAFETY: the buffer has at least the frame's bytes.
        unsafe frame.withUnsafeBytes { unsafe buffer.copyMemory(from: $0) }
        return frame.count
    }

    /// Whether a frame waits, or a connection has something to send.
    package override var hasNext: Bool {
        let time = now()
        return !waiting.isEmpty || connections.contains { $0.hasOutput(at: time) }
    }

    /// The first time at which a connection sends something again.
    package override var deadline: UInt64? {
        connections.compactMap(\.deadline).min()
    }

    /// Forgets all connections.
    package override func reset() {
        connections = []
        waiting = []
    }

    /// Frames, connections, requests and bytes of answers; what was refused.
    package override func counters() -> [(name: String, value: UInt64)] {
        let tally = published.load()
        return [
            ("mmds_frames", tally.frames), ("mmds_refused_frames", tally.refused), ("mmds_connections", tally.connections),
            ("mmds_requests", tally.requests), ("mmds_invalid_requests", tally.invalidRequests), ("mmds_bytes", tally.bytes),
        ]
    }

    private func refuse() {
        tally.refused &+= 1
    }

    // MARK: ARP (RFC 826)

    private func handleARP(_ frame: [UInt8]) {
        let request: [UInt8] = [0, 1, 8, 0, 6, 4, 0, 1]  // Ethernet, IPv4, lengths of the addresses, request
        guard frame.count >= 42, Array(frame[14..<22]) == request else { return refuse() }
        let (sender, senderAddress) = (Array(frame[22..<28]), Array(frame[28..<32]))
        let reply: [UInt8] = [0, 1, 8, 0, 6, 4, 0, 2]
        enqueue(header(EtherType.arp) + reply + MetadataResponder.hardwareAddress + bytes(address) + sender + senderAddress)
    }

    private func enqueue(_ frame: [UInt8]) {
        guard waiting.count < MetadataResponder.waitingLimit else { return refuse() }
        waiting.append(frame)
    }

    // MARK: TCP

    private func handle(_ segment: TCPSegment) {
        let time = now()
        let index = connections.firstIndex { $0.address == segment.source && $0.port == segment.sourcePort }
        guard segment.port == MetadataResponder.port, let place = index ?? open(segment, time) else {
            return sendReset(segment)
        }
        guard index != nil else { return }
        connections[place].receive(segment, now: time) { [self] request in answer(request) }
        if connections[place].isOver { connections.remove(at: place) }
    }

    private func answer(_ request: MetadataRequest?) -> [UInt8] {
        guard let request else {
            tally.invalidRequests &+= 1
            return MetadataService.refusal()
        }
        tally.requests &+= 1
        let answer = service.answer(request)
        tally.bytes &+= UInt64(answer.count)
        return answer
    }

    /// Opens a connection, if the segment asks for one and there is room.
    private func open(_ segment: TCPSegment, _ time: UInt64) -> Int? {
        guard segment.flags.contains(.start), !segment.flags.contains(.acknowledge), !segment.flags.contains(.reset) else { return nil }
        if connections.count >= MetadataResponder.connectionLimit {
            let idle = connections.indices.min { connections[$0].lastUse < connections[$1].lastUse }
            guard let idle, time &- connections[idle].lastUse >= MetadataResponder.idleTime else { return nil }
            connections.remove(at: idle)
        }
        tally.connections &+= 1
        connections.append(TCPConnection(segment, initial: UInt32.random(in: 0 ... .max), now: time))
        return connections.count - 1
    }

    /// Answers a segment without a connection (RFC 9293, 3.10.7.1). A reset gets no answer.
    private func sendReset(_ segment: TCPSegment) {
        refuse()
        guard !segment.flags.contains(.reset) else { return }
        let hasNumber = segment.flags.contains(.acknowledge)
        let output = TCPConnection.Output(
            sequence: hasNumber ? segment.acknowledgement : 0, acknowledgement: segment.sequence &+ segment.length,
            flags: hasNumber ? .reset : [.reset, .acknowledge], window: 0, payload: [])
        enqueue(frame(output, to: segment.source, port: segment.sourcePort, from: segment.port))
    }

    private func nextSegment() -> [UInt8]? {
        let time = now()
        for step in 0..<connections.count {
            let index = (turn + step) % connections.count
            guard let output = connections[index].next(now: time) else { continue }
            turn = index + 1
            let frame = frame(output, to: connections[index].address, port: connections[index].port, from: MetadataResponder.port)
            if connections[index].isOver { connections.remove(at: index) }
            return frame
        }
        return nil
    }

    // MARK: Frames

    private func header(_ type: [UInt8]) -> [UInt8] {
        guestAddress + MetadataResponder.hardwareAddress + type
    }

    private func frame(_ output: TCPConnection.Output, to target: UInt32, port: UInt16, from source: UInt16) -> [UInt8] {
        let options: [UInt8] = output.flags.contains(.start) ? [2, 4] + bytes(UInt16(1460)) : []
        let length = 20 + options.count + output.payload.count
        identification &+= 1
        var ip: [UInt8] = [0x45, 0] + bytes(UInt16(truncatingIfNeeded: 20 + length)) + bytes(identification)
        ip += [0x40, 0, 64, 6, 0, 0] + bytes(address) + bytes(target)  // not to be fragmented, 64 hops, TCP
        (ip[10], ip[11]) = halves(Checksum.of(ip[...]))
        var tcp = bytes(source) + bytes(port) + bytes(output.sequence) + bytes(output.acknowledgement)
        tcp +=
            [UInt8(truncatingIfNeeded: (20 + options.count) / 4) << 4, output.flags.rawValue] + bytes(output.window) + [0, 0, 0, 0]
            + options
        tcp += output.payload
        (tcp[16], tcp[17]) = halves(Checksum.of(tcp[...], startingFrom: Checksum.pseudoHeader(address, target, length: length)))
        return header(EtherType.ip4) + ip + tcp
    }

    private func bytes(_ number: UInt16) -> [UInt8] {
        [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
    }

    private func bytes(_ number: UInt32) -> [UInt8] {
        bytes(UInt16(truncatingIfNeeded: number >> 16)) + bytes(UInt16(truncatingIfNeeded: number))
    }

    private func halves(_ number: UInt16) -> (UInt8, UInt8) {
        (UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number))
    }

    private static func long(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
        // SAFETY: the caller has checked the buffer's length.
        unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    /// The counts for other threads.
    private final class TallyBox: Sendable {
        private let tally = Mutex(Tally())

        func store(_ new: Tally) {
            tally.withLock { $0 = new }
        }

        func load() -> Tally {
            tally.withLock { $0 }
        }
    }
}
