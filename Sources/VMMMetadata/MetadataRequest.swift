// SPDX-License-Identifier: Apache-2.0

/// A guest's HTTP request, from at most `byteLimit` bytes. The guest is hostile: what is not understood gets status 400 and the end of the connection.
struct MetadataRequest {
    /// The longest request, with its body, in bytes.
    static let byteLimit = 2500

    enum Parsed {
        /// More bytes must come.
        case incomplete
        /// A request of this many bytes.
        case complete(MetadataRequest, byteCount: Int)
        /// Bytes that are no request.
        case invalid
    }

    let method: String
    /// The path without the query, percent-encoded as it came.
    let path: String
    /// The header's fields by names in lower case; the last of a name.
    let fields: [String: String]
    let isVersion1: Bool

    /// Whether the connection stays open after the answer.
    var keepsAlive: Bool {
        let wish = fields["connection"]?.lowercased()
        return isVersion1 ? wish != "close" : wish == "keep-alive"
    }

    /// Whether the guest asks for JSON.
    var wantsJSON: Bool {
        let types = (fields["accept"] ?? "").split(separator: ",").map { $0.prefix { $0 != ";" && $0 != " " } }
        return types.contains { $0 == "application/json" }
    }

    /// Parses the first request in the bytes.
    static func parse(_ bytes: [UInt8]) -> Parsed {
        guard let end = headEnd(bytes) else { return bytes.count < byteLimit ? .incomplete : .invalid }
        guard let head = String(validating: bytes[..<end], as: UTF8.self) else { return .invalid }
        let lines = head.split(separator: "\r\n", omittingEmptySubsequences: false)
        let words = lines[0].split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, !words[0].isEmpty, words[0].allSatisfy({ $0.isASCII && $0.isLetter }),
            words[2] == "HTTP/1.1" || words[2] == "HTTP/1.0", let path = originForm(words[1])
        else { return .invalid }
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":"), colon > line.startIndex else { return .invalid }
            let name = line[..<colon]
            guard name.allSatisfy({ $0.isASCII && !$0.isWhitespace }) else { return .invalid }
            let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
            fields[name.lowercased()] = String(value.trimmingEnd())
        }
        var length = 0
        if let text = fields["content-length"] {
            guard let number = Int(text), number >= 0, text.allSatisfy(\.isNumber) else { return .invalid }
            length = number
        }
        guard fields["transfer-encoding"] == nil, length <= byteLimit - end - 4 else { return .invalid }
        let whole = end + 4 + length
        guard bytes.count >= whole else { return .incomplete }
        let request = MetadataRequest(method: String(words[0]), path: path, fields: fields, isVersion1: words[2] == "HTTP/1.1")
        return .complete(request, byteCount: whole)
    }

    /// Where the empty line after the header begins: the offset of its first CRLF's last line end.
    private static func headEnd(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        let mark: [UInt8] = [13, 10, 13, 10]
        return (0...(bytes.count - 4)).first { bytes[$0..<$0 + 4].elementsEqual(mark) }
    }

    /// The path of a target in origin or absolute form.
    private static func originForm(_ target: Substring) -> String? {
        var rest = target
        if rest.lowercased().hasPrefix("http://") {
            rest = rest.dropFirst(7).drop { $0 != "/" }
            if rest.isEmpty { rest = "/" }
        }
        guard rest.hasPrefix("/"), rest.allSatisfy(\.isASCII) else { return nil }
        return String(rest.prefix { $0 != "?" })
    }
}

extension Substring {
    fileprivate func trimmingEnd() -> Substring {
        var text = self
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
