// SPDX-License-Identifier: Apache-2.0

/// A TCP segment in an IPv4 packet in an Ethernet frame, as the guest sent it (RFC 791, RFC 9293). Every length is checked.
struct TCPSegment {
    struct Flags: OptionSet {
        let rawValue: UInt8

        static let end = Flags(rawValue: 1)  // FIN
        static let start = Flags(rawValue: 2)  // SYN
        static let reset = Flags(rawValue: 4)  // RST
        static let push = Flags(rawValue: 8)  // PSH
        static let acknowledge = Flags(rawValue: 16)  // ACK
    }

    let source: UInt32
    let sourcePort: UInt16
    let port: UInt16
    let sequence: UInt32
    let acknowledgement: UInt32
    let flags: Flags
    let window: UInt16
    /// The largest segment that the guest takes (option 2); nil if it does not say.
    let segmentSize: UInt16?
    let payload: [UInt8]

    private static let ethernet = 14

    /// Parses a frame; nil if it is no whole TCP segment, is a fragment, or has a wrong checksum.
    ///
    /// - Parameter isChecked: whether the TCP checksum is complete.
    init?(_ frame: [UInt8], isChecked: Bool) {
        let ip = TCPSegment.ethernet
        guard frame.count >= ip + 20, frame[ip] >> 4 == 4 else { return nil }
        let headerLength = Int(frame[ip] & 15) * 4
        let total = Int(TCPSegment.word(frame, ip + 2))
        guard headerLength >= 20, total >= headerLength + 20, frame.count >= ip + total, frame[ip + 9] == 6 else { return nil }
        // Neither more fragments nor an offset.
        guard TCPSegment.word(frame, ip + 6) & 0x3fff == 0, Checksum.of(frame[ip..<ip + headerLength]) == 0 else { return nil }
        let tcp = ip + headerLength
        let offset = Int(frame[tcp + 12] >> 4) * 4
        guard offset >= 20, headerLength + offset <= total else { return nil }
        source = TCPSegment.long(frame, ip + 12)
        if isChecked {
            let length = total - headerLength
            let pseudo = Checksum.pseudoHeader(source, TCPSegment.long(frame, ip + 16), length: length)
            guard Checksum.of(frame[tcp..<ip + total], startingFrom: pseudo) == 0 else { return nil }
        }
        sourcePort = TCPSegment.word(frame, tcp)
        port = TCPSegment.word(frame, tcp + 2)
        sequence = TCPSegment.long(frame, tcp + 4)
        acknowledgement = TCPSegment.long(frame, tcp + 8)
        flags = Flags(rawValue: frame[tcp + 13])
        window = TCPSegment.word(frame, tcp + 14)
        segmentSize = TCPSegment.segmentSize(frame[(tcp + 20)..<(tcp + offset)])
        payload = Array(frame[(tcp + offset)..<(ip + total)])
    }

    /// Sequence numbers that the segment uses.
    var length: UInt32 {
        UInt32(truncatingIfNeeded: payload.count) &+ (flags.contains(.start) ? 1 : 0) &+ (flags.contains(.end) ? 1 : 0)
    }

    private static func segmentSize(_ options: ArraySlice<UInt8>) -> UInt16? {
        var rest = options
        while let kind = rest.popFirst() {
            if kind == 0 { return nil }
            if kind == 1 { continue }
            guard let length = rest.popFirst(), length >= 2, rest.count >= Int(length) - 2 else { return nil }
            let value = rest.prefix(Int(length) - 2)
            if kind == 2, value.count == 2, let high = value.first, let low = value.last { return UInt16(high) << 8 | UInt16(low) }
            rest = rest.dropFirst(Int(length) - 2)
        }
        return nil
    }

    static func word(_ bytes: [UInt8], _ offset: Int) -> UInt16 {
        UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
    }

    static func long(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        UInt32(word(bytes, offset)) << 16 | UInt32(word(bytes, offset + 2))
    }
}

/// The Internet checksum (RFC 1071).
enum Checksum {
    /// The checksum of bytes; 0 if they contain the right one.
    static func of(_ bytes: ArraySlice<UInt8>, startingFrom start: UInt32 = 0) -> UInt16 {
        var sum = start
        var index = bytes.startIndex
        while index + 1 < bytes.endIndex {
            sum &+= UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
            index += 2
        }
        if index < bytes.endIndex { sum &+= UInt32(bytes[index]) << 8 }
        // At most 64 KiB are summed, so the sum has not overflowed.
        while sum >> 16 != 0 { sum = (sum & 0xffff) &+ sum >> 16 }
        return ~UInt16(truncatingIfNeeded: sum)
    }

    /// The part of a TCP checksum that comes from the IPv4 header.
    static func pseudoHeader(_ source: UInt32, _ target: UInt32, length: Int) -> UInt32 {
        source >> 16 &+ source & 0xffff &+ target >> 16 &+ target & 0xffff &+ 6 &+ UInt32(truncatingIfNeeded: length)
    }
}
