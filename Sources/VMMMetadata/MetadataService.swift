// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI

/// Answers a guest's HTTP request from the store: Firecracker's MMDS, versions 1 and 2 (its docs/mmds).
struct MetadataService: Sendable {
    private static let tokenPath = "/latest/api/token"
    private static let tokenFields = ["x-metadata-token", "x-aws-ec2-metadata-token"]
    private static let lifetimeFields = ["x-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token-ttl-seconds"]

    let store: MetadataStore

    /// A complete answer as bytes.
    func answer(_ request: MetadataRequest) -> [UInt8] {
        switch request.method {
        case "GET": get(request)
        case "PUT": put(request)
        default: text(request, "405 Method Not Allowed", "Not allowed HTTP method.", fields: ["Allow: GET, PUT"])
        }
    }

    /// The answer to bytes that are no request. The connection ends after it.
    static func refusal() -> [UInt8] {
        message("HTTP/1.1", "400 Bad Request", "text/plain", Array("The request is not valid HTTP.".utf8), ["Connection: close"])
    }

    private func get(_ request: MetadataRequest) -> [UInt8] {
        if store.version == .v2 {
            guard let token = MetadataService.tokenFields.lazy.compactMap({ request.fields[$0] }).first else {
                let advice = "Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the session token."
                return text(request, "401 Unauthorized", "No MMDS token provided. \(advice)")
            }
            guard store.tokens.isValid(token) else { return text(request, "401 Unauthorized", "MMDS token not valid.") }
        }
        let isJSON = request.wantsJSON
        do throws(MetadataStore.Missing) {
            let body = try store.answer(path: request.path, format: isJSON ? .json : .plain)
            return message(request, "200 OK", isJSON && !store.isPlainAlways ? "application/json" : "text/plain", body)
        } catch {
            switch error {
            case .notFound: return text(request, "404 Not Found", "Resource not found: \(request.path).")
            case .unsupportedType:
                return text(request, "501 Not Implemented", "Cannot retrieve value. The value has an unsupported type.")
            }
        }
    }

    private func put(_ request: MetadataRequest) -> [UInt8] {
        // A proxy must not get a token for others.
        guard request.fields["x-forwarded-for"] == nil else {
            return text(request, "400 Bad Request", "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For")
        }
        let parts = request.path.split(separator: "/")
        guard parts == MetadataService.tokenPath.split(separator: "/") else {
            return text(request, "404 Not Found", "Resource not found: \(request.path).")
        }
        guard let field = MetadataService.lifetimeFields.first(where: { request.fields[$0] != nil }), let value = request.fields[field]
        else {
            let advice =
                "Use `X-metadata-token-ttl-seconds` or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime."
            return text(request, "400 Bad Request", "Token time to live value not found. \(advice)")
        }
        guard let seconds = UInt32(value) else {
            return text(request, "400 Bad Request", "Invalid header. Reason: Invalid value. Key:\(field); Value:\(value)")
        }
        guard MetadataTokens.lifetimes.contains(seconds) else {
            let (least, most) = (MetadataTokens.lifetimes.lowerBound, MetadataTokens.lifetimes.upperBound)
            return text(
                request, "400 Bad Request",
                "Invalid time to live value provided for token: \(seconds). Please provide a value between \(least) and \(most).")
        }
        guard let token = store.tokens.make(seconds: seconds) else {
            return text(request, "500 Internal Server Error", "The host has no random numbers.")
        }
        return text(request, "200 OK", token, fields: ["\(field): \(seconds)"])
    }

    private func text(_ request: MetadataRequest, _ status: String, _ body: String, fields: [String] = []) -> [UInt8] {
        message(request, status, "text/plain", Array(body.utf8), fields)
    }

    private func message(_ request: MetadataRequest, _ status: String, _ type: String, _ body: [UInt8], _ fields: [String] = []) -> [UInt8]
    {
        let connection = request.keepsAlive ? "Connection: keep-alive" : "Connection: close"
        return MetadataService.message(
            request.isVersion1 ? "HTTP/1.1" : "HTTP/1.0", status, type, body, [connection, "Server: Firecracker API"] + fields)
    }

    /// The guest's own words in a body or a field have no line ends: a header's lines end there, and a path has none.
    private static func message(_ version: String, _ status: String, _ type: String, _ body: [UInt8], _ fields: [String]) -> [UInt8] {
        let head = ["\(version) \(status)", "Content-Type: \(type)", "Content-Length: \(body.count)"] + fields
        return Array((head.joined(separator: "\r\n") + "\r\n\r\n").utf8) + body
    }
}
