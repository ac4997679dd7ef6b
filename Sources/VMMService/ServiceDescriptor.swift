// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI
package import VMMBase
package import VMMPresentation

/// Describes a symbiotic service: its claims on the symbiotic interface, its option and configuration, its API routes, and its section of the report.
/// symvmm accesses services only through a registry of descriptors.
package struct ServiceDescriptor: Sendable {
    /// Creates the service's routes. The machine may not exist yet.
    package typealias Routes = @Sendable (@escaping @Sendable () -> VirtualMachine?) -> [APIRoute]

    /// The command's option.
    package struct Option: Sendable {
        /// The name without dashes.
        package let name: String
        /// The format of its value.
        package let form: String
        /// Help text.
        package let help: String

        /// Describes an option.
        package init(name: String, form: String, help: String) {
            self.name = name
            self.form = form
            self.help = help
        }
    }

    /// The service's doorbells, symcalls, feature bits and bytes of the global page.
    package let claims: ServiceClaims
    /// Key in the configuration file, and name of its resource: `PUT /key`.
    package let key: String
    /// What it adds to the VM, for messages.
    package let title: String
    /// Number of virtio devices that it adds.
    package let deviceCount: Int
    /// The option of `symvmm run` and `symvmm serve`.
    package let option: Option
    /// Its API routes.
    package let routes: Routes
    /// Its section of the HTML report, if any.
    package let reportSection: ReportSection?

    private let readOption: @Sendable (ServiceDescriptor, String) throws(VMMError) -> ServiceRequest
    private let readBody: @Sendable (ServiceDescriptor, APIRequest) throws(APIError) -> ServiceRequest
    private let readPart: @Sendable (ServiceDescriptor, any Decoder) throws -> Part

    /// Describes a service.
    ///
    /// - Parameter configuration: the type of its settings.
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
        readOption = { (descriptor, text) throws(VMMError) in ServiceRequest(descriptor, try Configuration(option: text)) }
        readBody = { (descriptor, request) throws(APIError) in
            let received = try request.body(Configuration.Resource.self)
            do throws(VMMError) {
                return ServiceRequest(descriptor, try Configuration(received))
            } catch {
                throw APIError(error)
            }
        }
        readPart = { descriptor, decoder in
            let resource = try Strict<Configuration.Resource>(from: decoder).resource
            return Part { (path) throws(VMMError) in ServiceRequest(descriptor, try Configuration(Received(resource, at: path))) }
        }
    }

    /// The service's resource in a larger text: decoded, values not yet checked.
    package struct Part: Sendable {
        /// Checks the values. Errors begin with the path.
        package let check: @Sendable (FieldPath) throws(VMMError) -> ServiceRequest
    }

    /// Parses the option's text.
    package func request(fromOption text: String) throws(VMMError) -> ServiceRequest {
        try readOption(self, text)
    }

    /// Decodes the body of `PUT /key`.
    package func request(from request: APIRequest) throws(APIError) -> ServiceRequest {
        try readBody(self, request)
    }

    /// Decodes the resource in a larger text.
    package func part(from decoder: any Decoder) throws -> Part {
        try readPart(self, decoder)
    }
}
