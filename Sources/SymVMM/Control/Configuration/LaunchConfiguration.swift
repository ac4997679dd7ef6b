// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// What one run is asked for: the machine, and what the process keeps beside it. Made by `MachineResources.launch()`.
public struct LaunchConfiguration: Sendable, Equatable {
    /// The machine.
    public var machine: MachineConfiguration
    /// Where the exit statistics are written at the end of the run.
    public var statsFile: String?
    /// The control socket's path; by the VM's name in the runtime folder when nil.
    public var apiSocket: String?

    /// A launch with nothing beside the machine.
    public init(machine: MachineConfiguration) {
        self.machine = machine
        statsFile = nil
        apiSocket = nil
    }

    /// The name of a VM that was given none: `vm-` and the process' number.
    public static var derivedName: String {
        "vm-\(getpid())"
    }
}
