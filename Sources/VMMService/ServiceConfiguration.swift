// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI
package import VMMBase

/// What a symbiotic service can be told: the text of its option, or the fields of its resource.
package protocol ServiceConfiguration: Sendable, Equatable {
    /// Reads the option's text.
    init(option text: String) throws(ControlError)
    /// Reads the fields that a configuration file or the API gives, and complains of those that it does not know.
    init(_ fields: JSONFields) throws(ControlError)
    /// The same as JSON: what `init(_:)` reads.
    var document: JSONValue { get }
    /// Makes the service, for one VM.
    func makeService() throws(KVMError) -> SymbioticService
}

/// One service that a VM's configuration asks for.
package struct ServiceRequest: Sendable, Equatable {
    /// The service's key in the configuration.
    package let key: String
    /// What it is asked for, as JSON.
    package let document: JSONValue
    /// Number of virtio devices that it brings.
    package let deviceCount: Int
    private let title: String
    private let make: @Sendable () throws(KVMError) -> SymbioticService

    init(_ descriptor: ServiceDescriptor, _ configuration: some ServiceConfiguration) {
        key = descriptor.key
        title = descriptor.title
        deviceCount = descriptor.deviceCount
        document = configuration.document
        make = { () throws(KVMError) in try configuration.makeService() }
    }

    /// Makes the service, for one VM.
    package func makeService() throws(ControlError) -> SymbioticService {
        do throws(KVMError) {
            return try make()
        } catch {
            throw .host("\(title): \(error)")
        }
    }

    /// Equal when they ask for the same.
    package static func == (left: ServiceRequest, right: ServiceRequest) -> Bool {
        left.key == right.key && left.document == right.document
    }
}
