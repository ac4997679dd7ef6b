// SPDX-License-Identifier: Apache-2.0

/// `GET /summary`: one line of `symvmm ps`.
package struct MachineSummary: Codable, Sendable, Equatable {
    /// The VM's name.
    package let name: String
    /// Process ID of the VMM.
    package var pid: Int32
    /// State: a raw value of `MachineState`, or `Not answering`, or `Stopped` (its process, by a signal).
    package let state: String
    /// Number of vCPUs.
    package let vcpuCount: Int
    /// Guest memory in MiB.
    package let memoryMebibytes: UInt64
    /// Nanoseconds since the machine was built; 0 before.
    package let uptimeNanoseconds: UInt64
    /// Exits to user space since the start of the VM.
    package let exitCount: UInt64
    /// Whether symvmm offers the guest the symbiotic interface.
    package let symbiotic: Bool
    /// The sandbox: `on`, `off` or `log`; nil from a VM that does not tell.
    package let sandbox: String?
    /// Warnings about the VM, one line each; nil if there are none.
    package let warnings: [String]?
    /// Path of the control socket. The client sets it.
    package var socket: String?

    /// The state of a VM whose process is stopped.
    package static let stopped = "Stopped"

    enum CodingKeys: String, CodingKey {
        case name, pid, state, symbiotic, sandbox, warnings, socket
        case vcpuCount = "vcpu_count"
        case memoryMebibytes = "mem_size_mib"
        case uptimeNanoseconds = "uptime_ns"
        case exitCount = "exit_count"
    }

    /// Describes a VM that accepts connections but does not answer. The numbers are 0.
    ///
    /// - Parameters:
    ///   - pid: its process; 0 if unknown.
    ///   - isStopped: whether a signal has stopped the process.
    package init(unresponsive name: String, pid: Int32, isStopped: Bool, socket: String) {
        self.init(
            name: name, pid: pid, state: isStopped ? MachineSummary.stopped : "Not answering", vcpuCount: 0, memoryMebibytes: 0,
            uptimeNanoseconds: 0,
            exitCount: 0, symbiotic: false)
        self.socket = socket
    }

    /// Describes a VM.
    package init(
        name: String, pid: Int32, state: String, vcpuCount: Int, memoryMebibytes: UInt64, uptimeNanoseconds: UInt64, exitCount: UInt64,
        symbiotic: Bool, sandbox: String? = nil, warnings: [String] = []
    ) {
        self.name = name
        self.pid = pid
        self.state = state
        self.vcpuCount = vcpuCount
        self.memoryMebibytes = memoryMebibytes
        self.uptimeNanoseconds = uptimeNanoseconds
        self.exitCount = exitCount
        self.symbiotic = symbiotic
        self.sandbox = sandbox
        self.warnings = warnings.isEmpty ? nil : warnings
    }
}
