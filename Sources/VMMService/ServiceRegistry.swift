// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import SymVMM
internal import VMMAPI

/// The symbiotic services that this program has.
package struct ServiceRegistry: Sendable, Equatable {
    /// In the order in which the guest finds their devices.
    package let descriptors: [ServiceDescriptor]

    /// A program without services.
    package init() {
        descriptors = []
    }

    /// Takes services that do not overlap.
    ///
    /// - Throws: when two claim the same of the symbiotic interface, or have the same key, option or route. That is a fault of the program's.
    package init(_ descriptors: [ServiceDescriptor]) throws(ControlError) {
        do throws(MachineError) {
            try ServiceClaims.check(descriptors.map(\.claims))
        } catch {
            throw ControlError(error)
        }
        var taken = Set<String>()
        for descriptor in descriptors {
            let routes = descriptor.routes { nil }.map { "\($0.method.rawValue) \($0.pattern)" }
            let own =
                ["key \(descriptor.key)", "option --\(descriptor.option.name)", "route PUT /\(descriptor.key)"]
                + routes.map { "route \($0)" }
            for name in own where !taken.insert(name).inserted {
                throw .usage("service \(descriptor.claims.name): \(name) belongs to another service")
            }
        }
        self.descriptors = descriptors
    }

    /// Requests in the order of the registry.
    package func ordered(_ requests: [ServiceRequest]) -> [ServiceRequest] {
        descriptors.flatMap { descriptor in requests.filter { $0.key == descriptor.key } }
    }

    /// Equal when they have services of the same names.
    package static func == (left: ServiceRegistry, right: ServiceRegistry) -> Bool {
        left.descriptors.map(\.claims) == right.descriptors.map(\.claims)
    }
}
