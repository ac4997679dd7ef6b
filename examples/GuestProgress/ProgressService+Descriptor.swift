// SPDX-License-Identifier: Apache-2.0

package import VMMService

internal import SymVMM
internal import VMMAPI
internal import VMMBase

extension ProgressService {
    /// The command's option `--progress UNIT`, the resource `PUT /progress {"unit": "files"}`, and the answer of `GET /progress`.
    package static let descriptor = ServiceDescriptor(
        claims: claims, key: "progress", title: "progress of the guest's job",
        option: ServiceDescriptor.Option(name: "progress", form: "UNIT", help: "Receive reports of progress, counted in UNIT."),
        configuration: Configuration.self,
        routes: { machine in
            [
                APIRoute(.get, "/progress") { _ throws(APIError) in
                    guard let service = machine()?.service(ProgressService.self) else {
                        throw APIError(400, "the VM receives no reports of progress: start it with --progress UNIT")
                    }
                    let progress = service.progress
                    return try .json(["done": progress.done, "total": progress.total])
                }
            ]
        })

    /// The settings of the service.
    private struct Configuration: ServiceConfiguration {
        /// The resource: its fields, for requests, configuration files and answers.
        struct Resource: APIResource {
            var unit: String

            enum CodingKeys: CodingKey, CaseIterable {
                case unit
            }
        }

        let unit: String

        init(option text: String) throws(VMMError) {
            unit = text
        }

        init(_ received: Received<Resource>) {
            unit = received.unit
        }

        var resource: Resource { Resource(unit: unit) }

        func makeService() throws(VMMError) -> SymbioticService {
            ProgressService()
        }
    }
}
