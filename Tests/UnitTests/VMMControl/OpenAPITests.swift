// SPDX-License-Identifier: Apache-2.0

import Testing
import Yams

@testable import SwapBypass
@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMService

/// docs/openapi.yaml has the routes and the fields that the server has, and no others.
@Suite struct OpenAPITests {
    private typealias Object = [String: Any]

    private func document() throws -> Object {
        let path = #filePath.split(separator: "/").dropLast(4).reduce("") { "\($0)/\($1)" } + "/docs/openapi.yaml"
        let text = String(decoding: try SmallFile.read(path, atMost: 1 << 20), as: UTF8.self)
        return try #require(try Yams.load(yaml: text) as? Object)
    }

    /// Methods and paths, as `GET /vm/config`.
    private func operations() throws -> Set<String> {
        let paths = try #require(try document()["paths"] as? [String: Object])
        return Set(
            paths.flatMap { path, item in
                APIMethod.allCases.map(\.rawValue).filter { item[$0.lowercased()] != nil }.map { "\($0) \(path)" }
            })
    }

    /// The fields of a schema.
    private func fields(_ schema: String) throws -> Set<String> {
        let components = try #require(try document()["components"] as? Object)
        let schemas = try #require(components["schemas"] as? [String: Object])
        let properties = try #require(schemas[schema]?["properties"] as? Object, "no schema \(schema)")
        return Set(properties.keys)
    }

    @Test func everyRouteIsInTheFileAndNothingElse() throws {
        let host = try VMController(MachineResources(name: "vm", registry: ServiceRegistry([SwapBypassService.descriptor]))) {
            (_, _, _) throws(VMMError) in throw .host("no machine")
        }
        let routes = try host.router(stopper: MachineStopper(host)).routes.map { "\($0.method.rawValue) \($0.pattern)" }
        #expect(routes.count == Set(routes).count)
        #expect(try Set(routes) == operations())
    }

    private struct Schema: Sendable {
        let name: String
        let fields: Set<String>

        init<Resource: APIResource>(_ name: String, _ resource: Resource.Type) {
            self.name = name
            fields = Set(Resource.CodingKeys.allCases.map(\.stringValue))
        }
    }

    private static let schemas = [
        Schema("BootSource", BootSource.self), Schema("MachineConfiguration", MachineConfigResource.self),
        Schema("PartialMachineConfiguration", MachineConfigResource.self), Schema("Drive", DriveResource.self),
        Schema("PartialDrive", PartialDriveResource.self), Schema("NetworkInterface", NetworkInterfaceResource.self),
        Schema("PartialNetworkInterface", PartialNetworkInterfaceResource.self), Schema("Entropy", EntropyResource.self),
        Schema("Serial", SerialResource.self), Schema("Logger", LoggerResource.self), Schema("Metrics", MetricsResource.self),
        Schema("MetadataConfiguration", MetadataConfigResource.self), Schema("Action", ActionResource.self),
        Schema("VM", VMStateResource.self), Schema("SymCall", SymCallResource.self),
        Schema("Swap", SwapResource.self), Schema("Switch", SwapChange.self), Schema("RateLimiter", RateLimiterResource.self),
        Schema("TokenBucket", TokenBucketResource.self),
    ]

    @Test func everyResourceHasTheFieldsOfItsSchema() throws {
        for schema in OpenAPITests.schemas { #expect(try fields(schema.name) == schema.fields, "\(schema.name)") }
        // The schema lacks the fields that a configuration file may have but no answer has.
        let only: Set = ["serial", "balloon", "cpu-config", "vsock", "memory-hotplug", "pmem"]
        let file = Set(ConfigurationFile.CodingKeys.allCases.map(\.stringValue)).subtracting(only)
        #expect(try fields("Configuration") == file.union(["swap"]))
    }

    @Test func theVersionIsThePrograms() throws {
        let info = try #require(try document()["info"] as? Object)
        #expect(info["version"] as? String == SymVMMVersion.current)
    }
}
