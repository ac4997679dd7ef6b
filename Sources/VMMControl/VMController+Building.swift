// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase

internal import VMMMetadata
internal import VMMService

extension VMController {
    /// The engine's virtual machine; nil before the start.
    package var virtualMachine: VirtualMachine? { machine?.virtualMachine }

    /// Builds a virtual machine with the services in its configuration: the builder of `symvmm run` and `serve`.
    package static func makeMachine(
        _ launch: LaunchConfiguration, _ output: ConsoleOutput, _ loading: LoadingLimit
    ) throws(VMMError) -> any MachineControl {
        var services: [SymbioticService] = []
        for request in launch.services { services.append(try request.makeService()) }
        return try VirtualMachine(
            launch.machine, console: output, services: services, loading: loading, responder: responder(for: launch))
    }

    /// Makes the metadata service of the interfaces that have it. A machine that continues another one's guest needs it, too.
    package static func responder(for launch: LaunchConfiguration) -> FrameResponder.Maker {
        let (metadata, store) = (launch.metadata, launch.metadataStore)
        return { id in
            guard let metadata, let store, metadata.interfaces.contains(id) else { return nil }
            return MetadataResponder(address: metadata.address, store: store)
        }
    }
}
