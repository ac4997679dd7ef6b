// SPDX-License-Identifier: Apache-2.0

@testable import VMMMetadata

/// A guest's side of the metadata service: makes frames, and takes those of the service apart.
final class MetadataGuest {
    static let address: UInt32 = 0xa9fe_a9fe
    private static let own: [UInt8] = [0x52, 0x54, 0, 1, 2, 3]

    /// A segment of the service.
    struct Answer {
        let port: UInt16
        let sequence: UInt32
        let acknowledgement: UInt32
        let flags: TCPSegment.Flags
        let window: UInt16
        let payload: [UInt8]
    }

    let responder: MetadataResponder
    /// Nanoseconds.
    private let clock = Clock()
    var port: UInt16 = 40_000
    var sequence: UInt32 = 0xffff_fff0
    var expected: UInt32 = 0
    var window: UInt16 = 64_000

    private final class Clock {
        var now: UInt64 = 1
    }

    var now: UInt64 {
        get { clock.now }
        set { clock.now = newValue }
    }

    init(_ store: MetadataStore) {
        responder = MetadataResponder(address: MetadataGuest.address, store: store) { [clock] in clock.now }
    }

    /// Sends a frame if the service takes it; false if not.
    @discardableResult
    func send(_ frame: [UInt8], isChecked: Bool = true) -> Bool {
        let isTaken = unsafe frame.withUnsafeBytes { unsafe responder.takes(UnsafeRawBufferPointer(rebasing: $0.prefix(42))) }
        if isTaken { unsafe frame.withUnsafeBytes { unsafe responder.handle($0, isChecked: isChecked) } }
        return isTaken
    }

    /// The service's next frame; nil if there is none.
    func frame() -> [UInt8]? {
        var room = [UInt8](repeating: 0, count: 1514)
        let count = unsafe room.withUnsafeMutableBytes { unsafe responder.next(into: $0) }
        return count == 0 ? nil : Array(room.prefix(count))
    }

    static func bytes(_ number: UInt32) -> [UInt8] {
        (0..<4).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * UInt32($0))) }
    }

    static func bytes(_ number: UInt16) -> [UInt8] {
        [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
    }

    /// A TCP segment in its frame.
    func segment(
        _ flags: TCPSegment.Flags, _ payload: [UInt8] = [], sequence: UInt32? = nil, acknowledgement: UInt32? = nil, port: UInt16 = 80,
        options: [UInt8] = [], checksum: UInt16? = nil
    ) -> [UInt8] {
        let source: UInt32 = 0xa9fe_0002
        var tcp = MetadataGuest.bytes(self.port) + MetadataGuest.bytes(port) + MetadataGuest.bytes(sequence ?? self.sequence)
        tcp += MetadataGuest.bytes(acknowledgement ?? expected)
        tcp += [UInt8((20 + options.count) / 4) << 4, flags.rawValue] + MetadataGuest.bytes(window) + [0, 0, 0, 0] + options + payload
        let pseudo = Checksum.pseudoHeader(source, MetadataGuest.address, length: tcp.count)
        let sum = checksum ?? Checksum.of(tcp[...], startingFrom: pseudo)
        (tcp[16], tcp[17]) = (UInt8(sum >> 8), UInt8(sum & 255))
        return MetadataGuest.packet(source, tcp)
    }

    static func packet(_ source: UInt32, _ content: [UInt8], fragment: UInt16 = 0, protocol number: UInt8 = 6) -> [UInt8] {
        var ip: [UInt8] = [0x45, 0] + bytes(UInt16(20 + content.count)) + [0, 1] + bytes(fragment) + [64, number, 0, 0]
        ip += bytes(source) + bytes(address)
        let sum = Checksum.of(ip[...])
        (ip[10], ip[11]) = (UInt8(sum >> 8), UInt8(sum & 255))
        return [0x06, 0x01, 0x23, 0x45, 0x67, 0x01] + own + [8, 0] + ip + content
    }

    /// The service's next segment, checked; nil if there is none.
    func answer() -> Answer? {
        guard let frame = frame(), frame.count >= 54, Array(frame[0..<6]) == MetadataGuest.own, Checksum.of(frame[14..<34]) == 0 else {
            return nil
        }
        let length = frame.count - 34
        let pseudo = Checksum.pseudoHeader(TCPSegment.long(frame, 26), TCPSegment.long(frame, 30), length: length)
        guard Checksum.of(frame[34...], startingFrom: pseudo) == 0 else { return nil }
        let offset = Int(frame[46] >> 4) * 4
        return Answer(
            port: TCPSegment.word(frame, 36), sequence: TCPSegment.long(frame, 38), acknowledgement: TCPSegment.long(frame, 42),
            flags: TCPSegment.Flags(rawValue: frame[47]), window: TCPSegment.word(frame, 48), payload: Array(frame[(34 + offset)...]))
    }

    /// Opens a connection; false if the service refuses.
    func open(options: [UInt8] = [2, 4, 5, 180]) -> Bool {
        send(segment(.start, acknowledgement: 0, options: options))
        guard let answer = answer(), answer.flags == [.start, .acknowledge], answer.acknowledgement == sequence &+ 1 else { return false }
        sequence &+= 1
        expected = answer.sequence &+ 1
        send(segment(.acknowledge))
        return true
    }

    /// Sends bytes, and returns what the service answers until it has nothing more, acknowledging each segment.
    func exchange(_ text: String) -> String {
        let payload = Array(text.utf8)
        send(segment([.push, .acknowledge], payload))
        sequence &+= UInt32(payload.count)
        return String(decoding: drain(), as: UTF8.self)
    }

    func drain() -> [UInt8] {
        var received: [UInt8] = []
        while let answer = answer() {
            guard answer.sequence == expected else { continue }
            received += answer.payload
            expected &+= UInt32(answer.payload.count) &+ (answer.flags.contains(.end) ? 1 : 0)
            if !answer.payload.isEmpty || answer.flags.contains(.end) { send(segment(.acknowledge)) }
        }
        return received
    }
}
