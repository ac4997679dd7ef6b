// SPDX-License-Identifier: Apache-2.0

/// One line of `symvmm ps`: our own resource `/summary`.
package struct MachineSummary: Codable, Sendable, Equatable {
    /// The VM's name.
    package let name: String
    /// Number of its process.
    package let pid: Int32
    /// Where it is in its life: `Not started`, `Running`, `Paused`, `Ended`.
    package let state: String
    /// Number of vCPUs.
    package let vcpuCount: Int
    /// Guest memory in MiB.
    package let memoryMebibytes: UInt64
    /// Nanoseconds since the start.
    package let uptimeNanoseconds: UInt64
    /// Exits to user space since the start.
    package let exitCount: UInt64
    /// Whether the guest is offered the symbiotic interface.
    package let symbiotic: Bool

    enum CodingKeys: String, CodingKey {
        case name, pid, state, symbiotic
        case vcpuCount = "vcpu_count"
        case memoryMebibytes = "mem_size_mib"
        case uptimeNanoseconds = "uptime_ns"
        case exitCount = "exit_count"
    }

    /// Of a VM that listens but does not answer.
    package init(unresponsive name: String) {
        self.init(
            name: name, pid: 0, state: "Not answering", vcpuCount: 0, memoryMebibytes: 0, uptimeNanoseconds: 0, exitCount: 0,
            symbiotic: false)
    }

    /// Describes a VM.
    package init(
        name: String, pid: Int32, state: String, vcpuCount: Int, memoryMebibytes: UInt64, uptimeNanoseconds: UInt64, exitCount: UInt64,
        symbiotic: Bool
    ) {
        self.name = name
        self.pid = pid
        self.state = state
        self.vcpuCount = vcpuCount
        self.memoryMebibytes = memoryMebibytes
        self.uptimeNanoseconds = uptimeNanoseconds
        self.exitCount = exitCount
        self.symbiotic = symbiotic
    }
}
