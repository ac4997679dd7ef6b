// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase

internal import VMMService

extension MachineHost {
    /// Makes a virtual machine with the services that the configuration asks for: the builder of the command.
    package static func makeMachine(
        _ launch: LaunchConfiguration, _ output: ConsoleOutput, _ loading: LoadingLimit
    ) throws(ControlError) -> any MachineControl {
        var services: [SymbioticService] = []
        for request in launch.services { services.append(try request.makeService()) }
        do throws(MachineError) {
            return try VirtualMachine(launch.machine, console: output, services: services, loading: loading)
        } catch {
            throw ControlError(error)
        }
    }
}
