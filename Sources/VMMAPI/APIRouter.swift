// SPDX-License-Identifier: Apache-2.0

/// One method of one resource of the API. A symbiotic service brings its own beside the machine's.
package struct APIRoute: Sendable {
    /// What a route does with a request. Called on the server's worker thread, one request after the other: it may block.
    package typealias Handler = @Sendable (APIRequest) throws(APIError) -> APIResponse

    /// The method.
    package let method: APIMethod
    /// The resource: a path from `/` on, in which `{name}` stands for one part.
    package let pattern: String
    private let parts: [Substring]
    private let handler: Handler

    /// Describes a route.
    package init(_ method: APIMethod, _ pattern: String, _ handler: @escaping Handler) {
        self.method = method
        self.pattern = pattern
        self.handler = handler
        parts = pattern.split(separator: "/", omittingEmptySubsequences: false)
    }

    /// What the pattern's parameters stand for when `path` fits it, otherwise nil.
    func match(_ path: [Substring]) -> [String: String]? {
        guard path.count == parts.count else { return nil }
        var parameters: [String: String] = [:]
        for (part, given) in zip(parts, path) {
            if part.hasPrefix("{"), part.hasSuffix("}") {
                guard !given.isEmpty else { return nil }
                parameters[String(part.dropFirst().dropLast())] = String(given)
            } else if part != given {
                return nil
            }
        }
        return parameters
    }

    func respond(to request: APIRequest) throws(APIError) -> APIResponse {
        try handler(request)
    }
}

/// Finds the route for a request: request in, response out, no socket. Errors become responses.
package struct APIRouter: Sendable {
    /// What is told of each request that was answered.
    package typealias Observer = @Sendable (APIRequest, APIResponse) -> Void

    /// All routes.
    let routes: [APIRoute]
    private let observe: Observer?

    /// Makes a router; where two routes fit, the first is taken.
    package init(_ routes: [APIRoute], observe: Observer? = nil) {
        self.routes = routes
        self.observe = observe
    }

    /// Answers a request: 404 for an unknown path, 405 with `Allow` for a known one without this method.
    package func respond(to request: APIRequest) -> APIResponse {
        let response = answer(request)
        observe?(request, response)
        return response
    }

    private func answer(_ request: APIRequest) -> APIResponse {
        var allowed: [String] = []
        for route in routes {
            guard let parameters = route.match(request.parts) else { continue }
            guard route.method == request.method else {
                allowed.append(route.method.rawValue)
                continue
            }
            var request = request
            request.parameters = parameters
            do throws(APIError) {
                return try route.respond(to: request)
            } catch {
                return .fault(error)
            }
        }
        guard !allowed.isEmpty else { return .fault(APIError(404, "there is no resource \(request.path)")) }
        let methods = allowed.joined(separator: ", ")
        return .fault(APIError(405, "\(request.path) does not take \(request.method.rawValue), only \(methods)"), allow: methods)
    }
}
