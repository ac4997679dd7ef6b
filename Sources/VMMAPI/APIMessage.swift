// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import FoundationEssentials

/// The HTTP methods of the API.
package enum APIMethod: String, Sendable, CaseIterable {
    /// Reads.
    case get = "GET"
    /// Sets or acts.
    case put = "PUT"
    /// Changes some fields.
    case patch = "PATCH"
    /// Removes or resets.
    case delete = "DELETE"
}

/// An API request.
package struct APIRequest: Sendable {
    /// The method.
    package let method: APIMethod
    /// The path without the query, percent-decoded, for messages.
    package let path: String
    /// The path's components. Each is percent-decoded after the split, so an encoded slash does not separate components.
    let parts: [Substring]
    /// The query, percent-decoded. The last value of a repeated key wins.
    package let query: [String: String]
    /// The body; the server bounds its length.
    package let body: [UInt8]
    /// The header `Accept`; nil without one.
    package let accept: String?
    /// The values of the pattern's `{name}` components, by name. The router sets them.
    package internal(set) var parameters: [String: String] = [:]

    /// Parses a request target: a path, then optionally `?` and a query. An absolute form, `http://localhost/path`, counts as its path (RFC 9112,
    /// 3.2.2).
    package init(method: APIMethod, target: String, body: [UInt8] = [], accept: String? = nil) {
        self.method = method
        self.body = body
        self.accept = accept
        let halves = APIRequest.originForm(target).split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let resource = halves.first ?? "/"
        path = APIRequest.decode(resource)
        parts = resource.split(separator: "/", omittingEmptySubsequences: false).map { APIRequest.decode($0)[...] }
        var query: [String: String] = [:]
        if halves.count == 2 {
            for field in halves[1].split(separator: "&") {
                let pair = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                query[APIRequest.decode(pair[0])] = pair.count == 2 ? APIRequest.decode(pair[1]) : ""
            }
        }
        self.query = query
    }

    /// Decodes the body. Throws status 400 if it is not JSON, exceeds a limit, or does not fit the resource.
    package func body<Resource: APIResource>(_ type: Resource.Type = Resource.self) throws(APIError) -> Received<Resource> {
        do throws(VMMError) {
            return try Received(body, source: "the request's body")
        } catch {
            throw APIError(error)
        }
    }

    /// The target without scheme and authority.
    private static func originForm(_ target: String) -> Substring {
        guard let scheme = target.firstRange(of: "://"), target[..<scheme.lowerBound].lowercased() == "http" else { return target[...] }
        let rest = target[scheme.upperBound...]
        guard let end = rest.firstIndex(where: { $0 == "/" || $0 == "?" }) else { return "/" }
        return rest[end] == "/" ? rest[end...] : "/" + rest[end...]
    }

    private static func decode(_ text: Substring) -> String {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let value = hexValue(rest.prefix(2)) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The value of two hexadecimal digits. Checks the digits first, because the integer's initializer also accepts a sign.
    private static func hexValue(_ digits: Substring.UTF8View.SubSequence) -> UInt8? {
        guard digits.count == 2, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else { return nil }
        return UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
    }
}

/// An error response, with Firecracker's body: `{"fault_message": "..."}`.
package struct APIError: Error, Sendable, Equatable {
    /// HTTP status, 400 to 599.
    package let status: Int
    /// The message, one line.
    package let message: String

    /// Creates an error.
    package init(_ status: Int, _ message: String) {
        self.status = status
        self.message = message
    }

    /// Status 400 with the error's text.
    package init(_ error: VMMError) {
        self.init(400, error.description)
    }
}

/// An API response.
package struct APIResponse: Sendable, Equatable {
    /// HTTP status.
    package let status: Int
    /// Content type. The server does not send it with status 204.
    package let contentType: String
    /// The body.
    package let body: [UInt8]
    /// Value of an `Allow` header, for 405.
    package let allow: String?

    /// Creates a response with a body.
    package init(status: Int = 200, contentType: String = "application/json", body: [UInt8], allow: String? = nil) {
        self.status = status
        self.contentType = contentType
        self.body = body
        self.allow = allow
    }

    /// Status 204 without a body.
    package static let noContent = APIResponse(status: 204, contentType: "", body: [])

    /// The answer to OPTIONS: status 204 and the methods.
    package static func options(_ methods: [String]) -> APIResponse {
        APIResponse(status: 204, contentType: "", body: [], allow: methods.joined(separator: ", "))
    }

    /// Status 200 with a value as JSON. Throws status 500 if the value cannot be encoded.
    package static func json(_ value: some Encodable) throws(APIError) -> APIResponse {
        do {
            return APIResponse(body: try JSONText.encode(value))
        } catch {
            throw APIError(500, "the response cannot be encoded as JSON: \(error)")
        }
    }

    /// The response for an error, with Firecracker's body. The message contains no control characters.
    package static func fault(_ error: APIError, allow: String? = nil) -> APIResponse {
        let body = (try? JSONText.encode(["fault_message": error.message.printable])) ?? Array("{\"fault_message\":\"\"}".utf8)
        return APIResponse(status: error.status, body: body, allow: allow)
    }
}

/// Encodes and decodes JSON. The encoder sorts the keys, so equal values give equal texts.
package enum JSONText {
    /// Encodes a value, on one line or, if `pretty`, with indentation.
    package static func encode(_ value: some Encodable, pretty: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting =
            pretty ? [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes] : [.sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(value))
    }

    /// Decodes a VM's answer or a recorded report, after checking its bounds (`JSONLimits.answer`).
    package static func decode<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws -> Value {
        try JSONLimits.answer.check(bytes, from: "the answer")
        return try JSONDecoder().decode(type, from: Data(bytes))
    }
}
