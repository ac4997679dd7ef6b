// SPDX-License-Identifier: Apache-2.0

package import VMMModel
package import VMMService

internal import Glibc

/// What one run is asked for: the machine, and what the process keeps beside it. Made by `MachineResources.launch()`.
package struct LaunchConfiguration: Sendable, Equatable {
    /// The machine.
    package var machine: MachineConfiguration
    /// Where the exit statistics are written at the end of the run.
    package var statsFile: String?
    /// The control socket's path; by the VM's name in the runtime folder when nil.
    package var apiSocket: String?

    /// The symbiotic services that are asked for.
    package var services: [ServiceRequest] = []

    /// A launch with nothing beside the machine.
    package init(machine: MachineConfiguration) {
        self.machine = machine
        statsFile = nil
        apiSocket = nil
    }

    /// The name of a VM that was given none: `vm-` and the process' number.
    package static var derivedName: String {
        "vm-\(getpid())"
    }
}
