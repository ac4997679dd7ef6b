// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import FoundationEssentials

/// The methods that the API knows.
package enum APIMethod: String, Sendable, CaseIterable {
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
package struct APIRequest: Sendable {
    /// What is to be done.
    package let method: APIMethod
    /// The resource, from `/` on, without the query; percent signs decoded: for messages.
    package let path: String
    /// What is between the path's slashes, each decoded: an encoded slash separates nothing.
    let parts: [Substring]
    /// The query's keys and values, decoded; of a repeated key the last.
    package let query: [String: String]
    /// The body, bounded by the server.
    package let body: [UInt8]
    /// What the pattern's `{name}` parts stood for.
    package internal(set) var parameters: [String: String] = [:]

    /// Takes a request's target apart.
    package init(method: APIMethod, target: String, body: [UInt8] = []) {
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
    package func fields() throws(APIError) -> JSONFields {
        do throws(ControlError) {
            return try JSONFields(JSONValue(parsing: body, from: "the request's body"), path: "the request's body:")
        } catch {
            throw APIError(error)
        }
    }

    /// Reads the body's fields and complains of those that nobody took.
    package func read<Value>(_ take: (inout JSONFields) throws(ControlError) -> Value) throws(APIError) -> Value {
        var fields = try fields()
        do throws(ControlError) {
            let value = try take(&fields)
            try fields.checkAllTaken()
            return value
        } catch {
            throw APIError(error)
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
package struct APIError: Error, Sendable, Equatable {
    /// HTTP status, 400 and up.
    package let status: Int
    /// One line.
    package let message: String

    /// Describes a refusal.
    package init(_ status: Int, _ message: String) {
        self.status = status
        self.message = message
    }

    /// 400: what the client asked for cannot be.
    package init(_ error: ControlError) {
        self.init(400, error.message)
    }
}

/// An answer.
package struct APIResponse: Sendable, Equatable {
    /// HTTP status.
    package let status: Int
    /// Type of the body; nothing is sent when there is none.
    package let contentType: String
    /// The body.
    package let body: [UInt8]
    /// Value of an `Allow` header, for 405.
    package let allow: String?

    /// An answer with a body.
    package init(status: Int = 200, contentType: String = "application/json", body: [UInt8], allow: String? = nil) {
        self.status = status
        self.contentType = contentType
        self.body = body
        self.allow = allow
    }

    /// 204: done, nothing to say.
    package static let noContent = APIResponse(status: 204, contentType: "", body: [])

    /// 200 with a value as JSON, keys sorted.
    package static func json(_ value: some Encodable) throws(APIError) -> APIResponse {
        do {
            return APIResponse(body: try JSONText.encode(value))
        } catch {
            throw APIError(500, "the answer cannot be written as JSON: \(error)")
        }
    }

    /// An error's answer.
    package static func fault(_ error: APIError, allow: String? = nil) -> APIResponse {
        let body = (try? JSONText.encode(["fault_message": error.message])) ?? Array("{\"fault_message\":\"\"}".utf8)
        return APIResponse(status: error.status, body: body, allow: allow)
    }
}

/// JSON out: keys sorted, so that the same value always gives the same text.
package enum JSONText {
    /// Encodes a value; `pretty` for people's eyes.
    package static func encode(_ value: some Encodable, pretty: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting =
            pretty ? [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes] : [.sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(value))
    }

    /// Decodes a value: of a VM's answer, or of what was kept of one. Too deep, too long or with too many values, it is not decoded at all.
    package static func decode<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws -> Value {
        try JSONLimits.answer.check(bytes, from: "the answer")
        return try JSONDecoder().decode(type, from: Data(bytes))
    }
}
