// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI
package import VMMBase
package import VMMPresentation

/// All that a symbiotic service brings, in one value: what it claims of the symbiotic interface, how it is asked for, and what it adds to the API
/// and to the report. A registry of such values is all that the rest of symvmm knows of services.
package struct ServiceDescriptor: Sendable {
    /// Its routes onto a machine, which may not be there yet.
    package typealias Routes = @Sendable (@escaping @Sendable () -> VirtualMachine?) -> [APIRoute]

    /// The command's option.
    package struct Option: Sendable {
        /// Without the dashes.
        package let name: String
        /// The form of its text.
        package let form: String
        /// What it does, for the help.
        package let help: String

        /// Describes an option.
        package init(name: String, form: String, help: String) {
            self.name = name
            self.form = form
            self.help = help
        }
    }

    /// Doorbells, symcalls, feature bits, its part of the global page.
    package let claims: ServiceClaims
    /// Its key in a configuration file, and the name of its resource: `PUT /key`.
    package let key: String
    /// What it gives the guest, in messages.
    package let title: String
    /// Number of virtio devices that it brings.
    package let deviceCount: Int
    /// How the command asks for it.
    package let option: Option
    /// Its resources of the API.
    package let routes: Routes
    /// What it adds to the HTML report; nil: nothing.
    package let reportSection: ReportSection?

    private let readOption: @Sendable (ServiceDescriptor, String) throws(ControlError) -> ServiceRequest
    private let readFields: @Sendable (ServiceDescriptor, JSONFields) throws(ControlError) -> ServiceRequest

    /// Describes a service.
    ///
    /// - Parameter configuration: what it can be told.
    package init<Configuration: ServiceConfiguration>(
        claims: ServiceClaims, key: String, title: String, deviceCount: Int = 0, option: Option, configuration: Configuration.Type,
        routes: @escaping Routes = { _ in [] }, reportSection: ReportSection? = nil
    ) {
        self.claims = claims
        self.key = key
        self.title = title
        self.deviceCount = deviceCount
        self.option = option
        self.routes = routes
        self.reportSection = reportSection
        readOption = { (descriptor, text) throws(ControlError) in ServiceRequest(descriptor, try Configuration(option: text)) }
        readFields = { (descriptor, fields) throws(ControlError) in ServiceRequest(descriptor, try Configuration(fields)) }
    }

    /// Reads the option's text.
    package func request(fromOption text: String) throws(ControlError) -> ServiceRequest {
        try readOption(self, text)
    }

    /// Reads the fields of the resource.
    package func request(from fields: JSONFields) throws(ControlError) -> ServiceRequest {
        try readFields(self, fields)
    }
}
