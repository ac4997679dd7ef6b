// SPDX-License-Identifier: Apache-2.0

internal import FoundationEssentials

/// The methods that the API knows.
public enum APIMethod: String, Sendable, CaseIterable {
    /// Reads.
    case get = "GET"
    /// Sets or does.
    case put = "PUT"
    /// Changes part.
    case patch = "PATCH"
    /// Removes or resets.
    case delete = "DELETE"
}

/// A request as the routes see it.
public struct APIRequest: Sendable {
    /// What is to be done.
    public let method: APIMethod
    /// The resource, from `/` on, without the query; percent signs decoded: for messages.
    public let path: String
    /// What is between the path's slashes, each decoded: an encoded slash separates nothing.
    let parts: [Substring]
    /// The query's keys and values, decoded; of a repeated key the last.
    public let query: [String: String]
    /// The body, bounded by the server.
    public let body: [UInt8]
    /// What the pattern's `{name}` parts stood for.
    public internal(set) var parameters: [String: String] = [:]

    /// Takes a request's target apart.
    public init(method: APIMethod, target: String, body: [UInt8] = []) {
        self.method = method
        self.body = body
        let halves = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
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

    /// The body as a JSON object whose fields are taken one by one.
    func fields() throws(APIError) -> JSONFields {
        do throws(ControlError) {
            return try JSONFields(JSONValue(parsing: body, from: "the request's body"), path: "the request's body:")
        } catch {
            throw APIError(400, error.message)
        }
    }

    /// Reads the body's fields and complains of those that nobody took.
    func read<Value>(_ take: (inout JSONFields) throws(ControlError) -> Value) throws(APIError) -> Value {
        var fields = try fields()
        do throws(ControlError) {
            let value = try take(&fields)
            try fields.checkAllTaken()
            return value
        } catch {
            throw APIError(400, error.message)
        }
    }

    private static func decode(_ text: Substring) -> String {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// A request that is refused: Firecracker's error body, `{"fault_message": "…"}`.
public struct APIError: Error, Sendable, Equatable {
    /// HTTP status, 400 and up.
    public let status: Int
    /// One line.
    public let message: String

    /// Describes a refusal.
    public init(_ status: Int, _ message: String) {
        self.status = status
        self.message = message
    }
}

/// An answer.
public struct APIResponse: Sendable, Equatable {
    /// HTTP status.
    public let status: Int
    /// Type of the body; nothing is sent when there is none.
    public let contentType: String
    /// The body.
    public let body: [UInt8]
    /// Value of an `Allow` header, for 405.
    public let allow: String?

    /// An answer with a body.
    public init(status: Int = 200, contentType: String = "application/json", body: [UInt8], allow: String? = nil) {
        self.status = status
        self.contentType = contentType
        self.body = body
        self.allow = allow
    }

    /// 204: done, nothing to say.
    public static let noContent = APIResponse(status: 204, contentType: "", body: [])

    /// 200 with a value as JSON, keys sorted.
    public static func json(_ value: some Encodable) throws(APIError) -> APIResponse {
        do {
            return APIResponse(body: try JSONText.encode(value))
        } catch {
            throw APIError(500, "the answer cannot be written as JSON: \(error)")
        }
    }

    /// An error's answer.
    public static func fault(_ error: APIError, allow: String? = nil) -> APIResponse {
        let body = (try? JSONText.encode(["fault_message": error.message])) ?? Array("{\"fault_message\":\"\"}".utf8)
        return APIResponse(status: error.status, body: body, allow: allow)
    }
}

/// JSON out: keys sorted, so that the same value always gives the same text.
public enum JSONText {
    /// Encodes a value; `pretty` for people's eyes.
    public static func encode(_ value: some Encodable, pretty: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting =
            pretty ? [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes] : [.sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(value))
    }

    /// Decodes a value: of a VM's answer, or of what was kept of one. Too deep, too long or with too many values, it is not decoded at all.
    public static func decode<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws -> Value {
        try JSONLimits.answer.check(bytes, from: "the answer")
        return try JSONDecoder().decode(type, from: Data(bytes))
    }
}
