// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI
package import VMMBase

/// The settings of a symbiotic service: the text of its option, or its resource in the API and the configuration file.
package protocol ServiceConfiguration: Sendable, Equatable {
    /// The fields of the resource.
    associatedtype Resource: APIResource

    /// Reads the option's text.
    init(option text: String) throws(VMMError)
    /// Checks the values of the fields.
    init(_ received: Received<Resource>) throws(VMMError)
    /// The same settings as a resource: what `init(_:)` reads.
    var resource: Resource { get }
    /// Paths of files that the service may remove when the VM ends.
    var removedFiles: [String] { get }
    /// Creates the service for one VM.
    func makeService() throws(VMMError) -> SymbioticService
}

extension ServiceConfiguration {
    /// None.
    package var removedFiles: [String] { [] }

    fileprivate func isEqual(to other: any ServiceConfiguration) -> Bool {
        other as? Self == self
    }
}

/// A service in a VM's configuration. Encodes as the service's resource.
package struct ServiceRequest: Sendable, Equatable, Encodable {
    /// The service's key in the configuration.
    package let key: String
    /// Number of virtio devices that it adds.
    package let deviceCount: Int
    private let title: String
    private let configuration: any ServiceConfiguration

    init(_ descriptor: ServiceDescriptor, _ configuration: any ServiceConfiguration) {
        key = descriptor.key
        title = descriptor.title
        deviceCount = descriptor.deviceCount
        self.configuration = configuration
    }

    /// Paths of files that the service may remove when the VM ends.
    package var removedFiles: [String] { configuration.removedFiles }

    /// Creates the service for one VM.
    package func makeService() throws(VMMError) -> SymbioticService {
        do throws(VMMError) {
            return try configuration.makeService()
        } catch {
            throw error.of(title, .host)
        }
    }

    /// Encodes the service's resource.
    package func encode(to encoder: any Encoder) throws {
        try configuration.resource.encode(to: encoder)
    }

    /// Compares key and settings.
    package static func == (left: ServiceRequest, right: ServiceRequest) -> Bool {
        left.key == right.key && left.configuration.isEqual(to: right.configuration)
    }
}
