// SPDX-License-Identifier: Apache-2.0

package import VMMModel
package import VMMMetadata
package import VMMService

internal import Glibc

/// The configuration of one run: the machine, and the settings of its process. `MachineResources.launch()` creates it.
package struct LaunchConfiguration: Sendable, Equatable {
    /// The machine.
    package var machine: MachineConfiguration
    /// Path of the file for the exit statistics at the end of the run; nil for none.
    package var statsFile: String?
    /// Path of the control socket; nil for the default path by name.
    package var apiSocket: String?
    /// Whether symvmm brings the guest its module.
    package var symbioticModule = SymbioticModule.none

    /// The metadata service; nil if the guest has none.
    package var metadata: MetadataConfiguration?
    /// The data of the metadata service.
    package var metadataStore: MetadataStore?

    /// The configured symbiotic services.
    package var services: [ServiceRequest] = []

    /// A run of a machine, without a statistics file and services, with the default control socket.
    package init(machine: MachineConfiguration) {
        self.machine = machine
        statsFile = nil
        apiSocket = nil
    }

    /// The default name: `vm-` and the process ID.
    package static var derivedName: String {
        "vm-\(getpid())"
    }
}
