// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMBase
internal import VMMModel
internal import VMMService

/// The routes that configure the machine, with Firecracker's names and fields. After the start, only GET, PUT /logger and PATCH of a drive or an
/// interface are allowed.
enum ConfigurationRoutes {
    /// Creates the routes.
    static func routes(for controller: VMController) -> [APIRoute] {
        wholeRoutes(controller) + deviceRoutes(controller) + serviceRoutes(controller)
    }

    private static func wholeRoutes(_ controller: VMController) -> [APIRoute] {
        [
            APIRoute(.get, "/vm/config", lane: .life) { _ throws(APIError) in
                let resources = controller.resources
                return try resources.style == .own ? .json(resources) : .json(FirecrackerConfiguration(resources))
            },
            APIRoute(.get, "/machine-config") { _ throws(APIError) in
                let resources = controller.resources
                return try resources.style == .own ? .json(resources.machineResource) : .json(FirecrackerMachine(resources))
            },
            change(controller, .put, "/machine-config") { (resources, received) throws(VMMError) in
                try resources.setMachine(received, isWhole: true)
            },
            change(controller, .patch, "/machine-config") { (resources, received: Received<MachineConfigResource>) throws(VMMError) in
                if resources.style == .firecracker, received.resource.isEmpty { throw .user("Empty PATCH request.") }
                try resources.setMachine(received, isWhole: false)
            },
            change(controller, .put, "/boot-source") { (resources, received) throws(VMMError) in try resources.setBootSource(received) },
            change(controller, .put, "/entropy") { (resources, _: Received<EntropyResource>) in resources.hasEntropy = true },
            change(controller, .put, "/serial") { (resources, received) throws(VMMError) in try resources.setSerial(received) },
            APIRoute(.put, "/metrics") { request throws(APIError) in
                try checkNotStarted(controller)
                let received: Received<MetricsResource> = try request.body()
                return try refusing { () throws(VMMError) in try controller.configureMetrics(received) }
            },
            APIRoute(.put, "/logger") { request throws(APIError) in
                if controller.style == .firecracker { try checkNotStarted(controller) }
                let received: Received<LoggerResource> = try request.body()
                return try refusing { () throws(VMMError) in try controller.configureLogger(received) }
            },
        ]
    }

    private static func deviceRoutes(_ controller: VMController) -> [APIRoute] {
        [
            change(controller, .put, "/drives/{drive_id}", identifier: .id, { $0.id }) {
                (resources, received: Received<DriveResource>) throws(VMMError) in
                try resources.setDrive(received)
            },
            change(controller, .put, "/network-interfaces/{iface_id}", identifier: .id, { $0.id }) {
                (resources, received: Received<NetworkInterfaceResource>) throws(VMMError) in
                try resources.setNetworkInterface(received)
            },
            APIRoute(.patch, "/drives/{drive_id}") { request throws(APIError) in try patchDrive(controller, request) },
            APIRoute(.patch, "/network-interfaces/{iface_id}") { request throws(APIError) in try patchInterface(controller, request) },
        ]
    }

    /// PUT of each service's resource.
    private static func serviceRoutes(_ controller: VMController) -> [APIRoute] {
        controller.resources.registry.descriptors.map { descriptor in
            APIRoute(.put, "/\(descriptor.key)") { request throws(APIError) in
                try checkNotStarted(controller)
                let service = try descriptor.request(from: request)
                return try refusing { () throws(VMMError) in
                    try controller.configure { (resources) throws(VMMError) in try resources.set(service) }
                }
            }
        }
    }

    /// A route that changes the configuration before the start.
    private static func change<Resource: APIResource>(
        _ controller: VMController, _ method: APIMethod, _ pattern: String,
        _ apply: @escaping @Sendable (inout MachineResources, Received<Resource>) throws(VMMError) -> Void
    ) -> APIRoute {
        APIRoute(method, pattern) { request throws(APIError) in
            // Check this before the fields: after the start, the error is the same for every body.
            try checkNotStarted(controller)
            let received: Received<Resource> = try request.body()
            return try refusing { () throws(VMMError) in
                try controller.configure { (resources) throws(VMMError) in try apply(&resources, received) }
            }
        }
    }

    /// The same for a resource with an identifier that is also in the path.
    private static func change<Resource: APIResource>(
        _ controller: VMController, _ method: APIMethod, _ pattern: String, identifier field: Resource.CodingKeys,
        _ identifier: @escaping @Sendable (Resource) -> String,
        _ apply: @escaping @Sendable (inout MachineResources, Received<Resource>) throws(VMMError) -> Void
    ) -> APIRoute {
        APIRoute(method, pattern) { request throws(APIError) in
            try checkNotStarted(controller)
            let received: Received<Resource> = try request.body()
            try checkIdentifier(received, field, identifier(received.resource), request)
            return try refusing { () throws(VMMError) in
                try controller.configure { (resources) throws(VMMError) in try apply(&resources, received) }
            }
        }
    }

    private static func checkNotStarted(_ controller: VMController) throws(APIError) {
        guard controller.state == .notStarted else { throw APIError(400, controller.style.tooLate) }
    }

    /// Firecracker's PartialDrive: replaces the file, or changes the limits, while the guest runs.
    private static func patchDrive(_ controller: VMController, _ request: APIRequest) throws(APIError) -> APIResponse {
        let received: Received<PartialDriveResource> = try request.body()
        let id = received.id
        try checkIdentifier(received, .id, id, request)
        try checkHasStarted(controller)
        guard controller.resources.drives.contains(where: { $0.id == id }) else {
            throw APIError(
                400,
                controller.style == .firecracker
                    ? "Drive config error: Unable to patch the block device: no drive '\(id)'" : "no drive '\(id)'")
        }
        return try refusing { () throws(VMMError) in
            let limiter = try RateLimiterConfiguration(changing: received.part(.rateLimiter, received.rateLimiter))
            if let path = received.path {
                try controller.replaceFile(ofDrive: id, with: path)
            } else if received.rateLimiter == nil {
                // Nothing else to do: the file is measured anew, and the guest is told its size.
                try controller.measureFile(ofDrive: id)
            }
            if let limiter { try controller.changeRateLimiter(ofDrive: id, limiter) }
        }
    }

    /// Firecracker's PartialNetworkInterface: changes the limits while the guest runs.
    private static func patchInterface(_ controller: VMController, _ request: APIRequest) throws(APIError) -> APIResponse {
        let received: Received<PartialNetworkInterfaceResource> = try request.body()
        try checkIdentifier(received, .id, received.id, request)
        try checkHasStarted(controller)
        guard controller.resources.networkInterfaces.contains(where: { $0.id == received.id }) else {
            throw APIError(400, "no network interface '\(received.id)'")
        }
        return try refusing { () throws(VMMError) in
            try controller.changeRateLimiters(
                ofInterface: received.id,
                receive: RateLimiterConfiguration(changing: received.part(.rxRateLimiter, received.rxRateLimiter)),
                transmit: RateLimiterConfiguration(changing: received.part(.txRateLimiter, received.txRateLimiter)))
        }
    }

    private static func checkHasStarted(_ controller: VMController) throws(APIError) {
        guard controller.state == .notStarted else { return }
        throw APIError(400, controller.style.tooEarly("the VM has not been started: change its configuration with PUT"))
    }

    /// Checks that the identifier in the body is the one in the path.
    private static func checkIdentifier<Resource>(
        _ received: Received<Resource>, _ field: Resource.CodingKeys, _ id: String, _ request: APIRequest
    ) throws(APIError) {
        let expected = request.parameters[field.stringValue] ?? ""
        guard id == expected else {
            throw APIError(400, "\(received.place(of: field)): '\(id)' is not '\(expected)', which the request's path names")
        }
    }

    /// Returns 204, or throws 400 with the error's text.
    private static func refusing(_ body: () throws(VMMError) -> Void) throws(APIError) -> APIResponse {
        do throws(VMMError) {
            try body()
            return .noContent
        } catch {
            throw APIError(error)
        }
    }
}
