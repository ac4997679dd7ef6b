// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SwapBypass
@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMService

@Suite struct OpenAPITests {
    /// Paths and methods of docs/openapi.yaml, as `GET /vm/config`. A path is a line with an indent of two between `paths:` and `components:`;
    /// methods follow, each in a line or all in braces; an asterisk stands for what was marked with the name.
    private func operations() throws -> Set<String> {
        let path = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" } + "/docs/openapi.yaml"
        let text = String(decoding: try SmallFile.read(path, atMost: 1 << 20), as: UTF8.self)
        var operations: [String: Set<String>] = [:]
        var marks: [String: String] = [:]
        var place: String?
        for line in text.split(separator: "\n").drop(while: { $0 != "paths:" }).prefix(while: { $0 != "components:" }) {
            if line.hasPrefix("  /"), let colon = line.firstRange(of: ":") {
                let name = line[line.index(line.startIndex, offsetBy: 2)..<colon.lowerBound]
                let rest = line[colon.upperBound...].split(separator: " ").first ?? ""
                place = String(name)
                if rest.hasPrefix("&") { marks[String(rest.dropFirst())] = String(name) }
                if rest.hasPrefix("*") { operations[String(name)] = marks[String(rest.dropFirst())].flatMap { operations[$0] } }
                for method in APIMethod.allCases where line.contains("\(method.rawValue.lowercased()): *") {
                    operations[String(name), default: []].insert(method.rawValue)
                }
            } else if let place {
                for method in APIMethod.allCases where line.hasPrefix("    \(method.rawValue.lowercased()):") {
                    operations[place, default: []].insert(method.rawValue)
                }
            }
        }
        return Set(operations.flatMap { place, methods in methods.map { "\($0) \(place)" } })
    }

    @Test func everyRouteIsInTheFileAndNothingElse() throws {
        let host = try MachineHost(MachineResources(name: "vm", registry: ServiceRegistry([SwapBypassService.descriptor]))) {
            (_, _, _) throws(ControlError) in throw .host("no machine")
        }
        let routes = host.router().routes.map { "\($0.method.rawValue) \($0.pattern)" }
        #expect(routes.count == Set(routes).count)
        #expect(try Set(routes) == operations())
    }
}
