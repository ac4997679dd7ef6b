// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMBase
internal import VMMModel
internal import VMMService

/// The resources that configure the machine, with Firecracker's names and fields. All but the logger and PATCH of a drive are for the time
/// before the start.
enum ConfigurationRoutes {
    /// The routes onto the VM's configuration.
    static func routes(for host: MachineHost) -> [APIRoute] {
        wholeRoutes(host) + deviceRoutes(host) + serviceRoutes(host)
    }

    private static func wholeRoutes(_ host: MachineHost) -> [APIRoute] {
        [
            APIRoute(.get, "/vm/config") { _ throws(APIError) in try .json(host.resources.document) },
            APIRoute(.get, "/machine-config") { _ throws(APIError) in try .json(host.resources.machineDocument) },
            change(host, .put, "/machine-config") { (resources, fields, _) throws(ControlError) in
                try resources.setMachine(fields, isWhole: true)
            },
            change(host, .patch, "/machine-config") { (resources, fields, _) throws(ControlError) in
                try resources.setMachine(fields, isWhole: false)
            },
            change(host, .put, "/boot-source") { (resources, fields, _) throws(ControlError) in try resources.setBootSource(fields) },
            change(host, .put, "/entropy") { (resources, fields, _) throws(ControlError) in try resources.checkEntropy(fields) },
            change(host, .put, "/serial") { (resources, fields, _) throws(ControlError) in try resources.setSerial(fields) },
            APIRoute(.put, "/metrics") { request throws(APIError) in
                guard host.state == .notStarted else { throw APIError(400, MachineHost.tooLate.message) }
                let fields = try request.fields()
                return try refusing { () throws(ControlError) in try host.configureMetrics(fields) }
            },
            APIRoute(.put, "/logger") { request throws(APIError) in
                let fields = try request.fields()
                return try refusing { () throws(ControlError) in try host.configureLogger(fields) }
            },
        ]
    }

    private static func deviceRoutes(_ host: MachineHost) -> [APIRoute] {
        [
            change(host, .put, "/drives/{drive_id}") { (resources, fields, parameters) throws(ControlError) in
                try resources.setDrive(fields, id: parameters["drive_id"])
            },
            change(host, .put, "/network-interfaces/{iface_id}") { (resources, fields, parameters) throws(ControlError) in
                try resources.setNetworkInterface(fields, id: parameters["iface_id"])
            },
            APIRoute(.patch, "/drives/{drive_id}") { request throws(APIError) in try patchDrive(host, request) },
            APIRoute(.patch, "/network-interfaces/{iface_id}") { request throws(APIError) in try patchInterface(host, request) },
        ]
    }

    /// PUT of each service's resource.
    private static func serviceRoutes(_ host: MachineHost) -> [APIRoute] {
        host.resources.registry.descriptors.map { descriptor in
            change(host, .put, "/\(descriptor.key)") { (resources, fields, _) throws(ControlError) in
                try resources.set(descriptor.request(from: fields))
            }
        }
    }

    /// A route that changes the configuration of a machine that is not yet there.
    private static func change(
        _ host: MachineHost, _ method: APIMethod, _ pattern: String,
        _ apply: @escaping @Sendable (inout MachineResources, JSONFields, [String: String]) throws(ControlError) -> Void
    ) -> APIRoute {
        APIRoute(method, pattern) { request throws(APIError) in
            // First whether it may be done at all: what is wrong with the fields does not matter then.
            guard host.state == .notStarted else { throw APIError(400, MachineHost.tooLate.message) }
            let fields = try request.fields()
            return try refusing { () throws(ControlError) in
                try host.configure { (resources) throws(ControlError) in try apply(&resources, fields, request.parameters) }
            }
        }
    }

    /// Firecracker's PartialDrive: another file behind the disk while the guest runs.
    private static func patchDrive(_ host: MachineHost, _ request: APIRequest) throws(APIError) -> APIResponse {
        let id = request.parameters["drive_id"] ?? ""
        let path = try request.read { (fields) throws(ControlError) in
            try checkIdentifier("drive_id", id, &fields)
            let path = try fields.string("path_on_host")
            try fields.notOffered("rate_limiter")
            return path
        }
        try checkHasStarted(host)
        guard host.resources.drives.contains(where: { $0.id == id }) else { throw APIError(400, "there is no drive '\(id)'") }
        guard let path else { return .noContent }
        do throws(MachineError) {
            try host.replaceFile(ofDrive: id, with: path)
        } catch {
            throw APIError(400, error.description)
        }
        return .noContent
    }

    /// Firecracker's PartialNetworkInterface has rate limiters only, which are not offered.
    private static func patchInterface(_ host: MachineHost, _ request: APIRequest) throws(APIError) -> APIResponse {
        let id = request.parameters["iface_id"] ?? ""
        _ = try request.read { (fields) throws(ControlError) in
            try checkIdentifier("iface_id", id, &fields)
            try fields.notOffered("rx_rate_limiter")
            try fields.notOffered("tx_rate_limiter")
        }
        try checkHasStarted(host)
        guard host.resources.networkInterfaces.contains(where: { $0.id == id }) else {
            throw APIError(400, "there is no network interface '\(id)'")
        }
        return .noContent
    }

    private static func checkHasStarted(_ host: MachineHost) throws(APIError) {
        guard host.state == .notStarted else { return }
        throw APIError(400, "the VM has not been started: change its configuration with PUT")
    }

    private static func checkIdentifier(_ field: String, _ expected: String, _ fields: inout JSONFields) throws(ControlError) {
        let id = try fields.requiredString(field)
        guard id == expected else { throw .usage("\(fields.name(field)): '\(id)' is not '\(expected)', which the request's path names") }
    }

    /// 204, or 400 with what the error says.
    private static func refusing(_ body: () throws(ControlError) -> Void) throws(APIError) -> APIResponse {
        do throws(ControlError) {
            try body()
            return .noContent
        } catch {
            throw APIError(error)
        }
    }
}
