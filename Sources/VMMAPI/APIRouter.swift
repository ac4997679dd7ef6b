// SPDX-License-Identifier: Apache-2.0

/// Which of the server's threads execute a route. A request never waits for one of the other lane.
package enum APILane: CaseIterable, Sendable {
    /// Pausing, resuming and ending the VM, and reading its state and statistics. The handlers are short.
    case life
    /// Everything else: configuration, start, symcalls. One request at a time; the handlers may block.
    case work
}

/// One method of one resource. Services add their own routes.
package struct APIRoute: Sendable {
    /// Handles a request. Called on a thread of the route's lane.
    package typealias Handler = @Sendable (APIRequest) throws(APIError) -> APIResponse

    /// The method.
    package let method: APIMethod
    /// The path pattern, in which `{name}` matches one component.
    package let pattern: String
    /// The lane.
    package let lane: APILane
    private let parts: [Substring]
    private let isLong: (@Sendable (APIRequest) -> Bool)?
    private let handler: Handler

    /// Creates a route.
    ///
    /// - Parameters:
    ///   - lane: the threads that execute the handler.
    ///   - isLong: in the lane `life`, whether this request belongs to the lane `work` after all. Must be short.
    package init(
        _ method: APIMethod, _ pattern: String, lane: APILane = .work, isLong: (@Sendable (APIRequest) -> Bool)? = nil,
        _ handler: @escaping Handler
    ) {
        self.method = method
        self.pattern = pattern
        self.lane = lane
        self.isLong = isLong
        self.handler = handler
        parts = pattern.split(separator: "/", omittingEmptySubsequences: false)
    }

    /// The parameters if `path` matches the pattern, else nil.
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

    func isLong(_ request: APIRequest) -> Bool {
        isLong?(request) ?? false
    }

    func respond(to request: APIRequest) throws(APIError) -> APIResponse {
        try handler(request)
    }
}

/// Dispatches a request to its route and turns errors into responses. Independent of sockets.
package struct APIRouter: Sendable {
    /// Called with each request and its response, on the thread that called `respond(to:)`.
    package typealias Observer = @Sendable (APIRequest, APIResponse) -> Void

    /// Answers a request whose path or method there is not, in place of 404 and 405. Gets the method, which may be none of `APIMethod`. Nil: the
    /// router's own answer.
    package typealias Unknown = @Sendable (APIRequest, String) -> APIResponse?

    /// All routes.
    let routes: [APIRoute]
    private let observe: Observer?
    private let unknown: Unknown?

    /// Creates a router. The first matching route wins.
    package init(_ routes: [APIRoute], unknown: Unknown? = nil, observe: Observer? = nil) {
        self.routes = routes
        self.unknown = unknown
        self.observe = observe
    }

    /// The methods of a path, for an `Allow` header: those of its routes, HEAD if it has GET, and OPTIONS. Empty if there is no such path.
    package func allowedMethods(of request: APIRequest) -> [String] {
        let methods = routes.filter { $0.match(request.parts) != nil }.map(\.method.rawValue)
        guard !methods.isEmpty else { return [] }
        return methods + (methods.contains(APIMethod.get.rawValue) ? ["HEAD"] : []) + ["OPTIONS"]
    }

    /// The lane of a request, by its method and path. A request without a route has the lane `work`.
    package func lane(of request: APIRequest) -> APILane {
        route(of: request)?.lane ?? .work
    }

    /// Whether a request of the lane `life` belongs to the lane `work` after all.
    package func isLong(_ request: APIRequest) -> Bool {
        route(of: request)?.isLong(request) ?? false
    }

    private func route(of request: APIRequest) -> APIRoute? {
        routes.first { $0.method == request.method && $0.match(request.parts) != nil }
    }

    /// Handles a request. Returns 404 for an unknown path, 405 with `Allow` for a method that the path does not have.
    package func respond(to request: APIRequest) -> APIResponse {
        let response = answer(request)
        observe?(request, response)
        return response
    }

    private func answer(_ request: APIRequest) -> APIResponse {
        for route in routes where route.method == request.method {
            guard let parameters = route.match(request.parts) else { continue }
            var request = request
            request.parameters = parameters
            do throws(APIError) {
                return try route.respond(to: request)
            } catch {
                return .fault(error)
            }
        }
        return refuse(request, method: request.method.rawValue)
    }

    /// The answer to a method that the path does not have: 405 with `Allow`, or 404 for an unknown path.
    package func refuse(_ request: APIRequest, method: String) -> APIResponse {
        let allowed = allowedMethods(of: request)
        if let answer = unknown?(request, method) { return answer }
        guard !allowed.isEmpty else { return .fault(APIError(404, "no resource \(request.path)")) }
        let methods = allowed.joined(separator: ", ")
        return .fault(APIError(405, "\(request.path) does not support \(method), only \(methods)"), allow: methods)
    }
}
