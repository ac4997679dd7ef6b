// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import SymVMM
internal import VMMAPI

/// The symbiotic services of this program.
package struct ServiceRegistry: Sendable, Equatable {
    /// In guest device order.
    package let descriptors: [ServiceDescriptor]

    /// No services.
    package init() {
        descriptors = []
    }

    /// Registers services that do not overlap.
    ///
    /// - Throws: if two services claim the same part of the symbiotic interface, or have the same key, option or route. That is a bug of the program.
    package init(_ descriptors: [ServiceDescriptor]) throws(VMMError) {
        try ServiceClaims.check(descriptors.map(\.claims))
        var taken = Set<String>()
        for descriptor in descriptors {
            let routes = descriptor.routes { nil }.map { "\($0.method.rawValue) \($0.pattern)" }
            let own =
                ["key \(descriptor.key)", "option --\(descriptor.option.name)", "route PUT /\(descriptor.key)"]
                + routes.map { "route \($0)" }
            for name in own where !taken.insert(name).inserted {
                throw .bug("service \(descriptor.claims.name): \(name) belongs to another service")
            }
        }
        self.descriptors = descriptors
    }

    /// Sorts requests in registry order.
    package func ordered(_ requests: [ServiceRequest]) -> [ServiceRequest] {
        descriptors.flatMap { descriptor in requests.filter { $0.key == descriptor.key } }
    }

    /// Compares the services' claims.
    package static func == (left: ServiceRegistry, right: ServiceRegistry) -> Bool {
        left.descriptors.map(\.claims) == right.descriptors.map(\.claims)
    }
}
