// SPDX-License-Identifier: Apache-2.0

import VMMBase

@testable import VMMMetadata

extension FuzzTarget {
    static let metadata = FuzzTarget(
        name: "metadata", summary: "frames of a guest to the metadata service", seeds: { MetadataFuzz.seeds },
        prepare: { try MetadataFuzz().run })
}

/// A guest that sends segments with chosen flags, numbers and payloads, right ones and wrong ones, and takes what comes back.
final class MetadataFuzz {
    static let seeds: [[UInt8]] = [[1, 2, 3, 4, 5, 6, 7, 8], Array("GET / HTTP/1.1\r\n\r\n".utf8), [UInt8](repeating: 0x12, count: 200)]
    private static let address: UInt32 = 0xa9fe_a9fe
    private static let texts = [
        "GET /latest HTTP/1.1\r\n\r\n", "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 5\r\n\r\n",
        "GET /long HTTP/1.1\r\n\r\n", "\r\n\r\n", "GET",
    ]

    private final class Clock {
        var now: UInt64 = 1
    }

    private let store: MetadataStore

    init() throws {
        store = MetadataStore(byteLimit: 51_200)
        try store.put(Array(#"{"latest": {"a": [1, "x"]}, "long": "\#(String(repeating: "y", count: 9000))"}"#.utf8))
    }

    func run(_ input: inout FuzzInput) throws {
        let clock = Clock()
        let responder = MetadataResponder(address: MetadataFuzz.address, store: store) { clock.now }
        var (sequence, expected) = (UInt32(7), UInt32(0))
        while !input.isEmpty {
            let choice = input.byte()
            clock.now &+= UInt64(input.byte()) << 22
            var payload: [UInt8] = []
            if choice & 1 != 0 { payload = Array(MetadataFuzz.texts[Int(input.byte()) % MetadataFuzz.texts.count].utf8) }
            if choice & 2 != 0 { payload = input.take(Int(input.byte()) * 4) }
            let flags = choice & 4 != 0 ? input.byte() : payload.isEmpty ? 16 : 24
            var wrong: UInt32 = 0
            if choice & 8 != 0 { wrong = UInt32(input.byte()) &- 128 }
            var frame = segment(
                choice & 16 != 0 ? 2 : flags, payload, sequence &+ wrong, expected, port: UInt16(choice >> 5),
                window: choice & 64 != 0 ? UInt16(input.byte()) : 60_000)
            // Sometimes any byte has another value.
            if choice & 128 != 0 { frame[Int(input.byte()) % frame.count] = input.byte() }
            deliver(frame, isChecked: choice & 128 == 0, to: responder)
            if wrong == 0, choice & 16 == 0 { sequence &+= UInt32(payload.count) }
            for _ in 0..<choice & 3 { take(from: responder, &expected, &sequence) }
        }
        // What waits is bounded, and ends.
        var frames = 0
        while take(from: responder, &expected, &sequence) {
            frames += 1
            expect(frames < 10_000, "the service never ends to send")
        }
        expect(responder.counters().allSatisfy { $0.value < 1 << 32 }, "a counter went below 0")
        // Another guest is served after a reset of the interface.
        responder.reset()
        deliver(segment(2, [], 1, 0, port: 99, window: 1000), isChecked: true, to: responder)
        expect(take(from: responder, &expected, &sequence), "no connection after a reset")
    }

    @discardableResult
    private func take(from responder: MetadataResponder, _ expected: inout UInt32, _ sequence: inout UInt32) -> Bool {
        var room = [UInt8](repeating: 0, count: 1514)
        let count = room.withUnsafeMutableBytes { responder.next(into: $0) }
        guard count > 0 else { return false }
        expect(count >= 42 && count <= 1514, "a frame of \(count) bytes")
        let frame = Array(room.prefix(count))
        guard frame[13] == 0, count >= 54 else { return true }
        expect(Checksum.of(frame[14..<34]) == 0, "the IPv4 header's checksum")
        let length = Int(TCPSegment.word(frame, 16)) - 20
        expect(length == count - 34, "lengths that differ")
        let pseudo = Checksum.pseudoHeader(TCPSegment.long(frame, 26), TCPSegment.long(frame, 30), length: length)
        expect(Checksum.of(frame[34...], startingFrom: pseudo) == 0, "the TCP checksum")
        let offset = Int(frame[46] >> 4) * 4
        expected = TCPSegment.long(frame, 38) &+ UInt32(count - 34 - offset) &+ UInt32(frame[47] & 2) / 2 &+ UInt32(frame[47] & 1)
        if frame[47] & 2 != 0 { sequence = TCPSegment.long(frame, 42) }
        return true
    }

    private func deliver(_ frame: [UInt8], isChecked: Bool, to responder: MetadataResponder) {
        frame.withUnsafeBytes { bytes in
            guard responder.takes(UnsafeRawBufferPointer(rebasing: bytes.prefix(42))) else { return }
            responder.handle(bytes, isChecked: isChecked)
        }
    }

    private func segment(
        _ flags: UInt8, _ payload: [UInt8], _ sequence: UInt32, _ acknowledgement: UInt32, port: UInt16, window: UInt16
    ) -> [UInt8] {
        func bytes(_ number: UInt32) -> [UInt8] { (0..<4).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * UInt32($0))) } }
        func half(_ number: UInt16) -> [UInt8] { [UInt8(number >> 8), UInt8(number & 255)] }
        var tcp =
            half(1000 + port) + half(80) + bytes(sequence) + bytes(acknowledgement) + [0x50, flags] + half(window) + [0, 0, 0, 0] + payload
        let sum = Checksum.of(tcp[...], startingFrom: Checksum.pseudoHeader(1, MetadataFuzz.address, length: tcp.count))
        (tcp[16], tcp[17]) = (UInt8(sum >> 8), UInt8(sum & 255))
        var ip: [UInt8] = [0x45, 0] + half(UInt16(20 + tcp.count)) + [0, 0, 0, 0, 64, 6, 0, 0] + bytes(1) + bytes(MetadataFuzz.address)
        let header = Checksum.of(ip[...])
        (ip[10], ip[11]) = (UInt8(header >> 8), UInt8(header & 255))
        return [6, 1, 0x23, 0x45, 0x67, 1, 2, 0, 0, 0, 0, 1, 8, 0] + ip + tcp
    }
}
