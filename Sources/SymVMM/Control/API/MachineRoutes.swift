// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Firecracker's `InstanceInfo`.
struct InstanceInfo: Codable, Equatable {
    let appName: String
    let id: String
    let state: String
    let vmmVersion: String

    enum CodingKeys: String, CodingKey {
        case appName = "app_name"
        case id
        case state
        case vmmVersion = "vmm_version"
    }
}

/// One line of `symvmm ps`: our own resource `/summary`.
public struct MachineSummary: Codable, Sendable, Equatable {
    /// The VM's name.
    public let name: String
    /// Number of its process.
    public let pid: Int32
    /// Where it is in its life: `Not started`, `Running`, `Paused`, `Ended`.
    public let state: String
    /// Number of vCPUs.
    public let vcpuCount: Int
    /// Guest memory in MiB.
    public let memoryMebibytes: UInt64
    /// Nanoseconds since the start.
    public let uptimeNanoseconds: UInt64
    /// Exits to user space since the start.
    public let exitCount: UInt64
    /// Whether the guest is offered the symbiotic interface.
    public let symbiotic: Bool

    enum CodingKeys: String, CodingKey {
        case name, pid, state, symbiotic
        case vcpuCount = "vcpu_count"
        case memoryMebibytes = "mem_size_mib"
        case uptimeNanoseconds = "uptime_ns"
        case exitCount = "exit_count"
    }

    /// Of a VM that listens but does not answer.
    init(unresponsive name: String) {
        self.init(
            name: name, pid: 0, state: "Not answering", vcpuCount: 0, memoryMebibytes: 0, uptimeNanoseconds: 0, exitCount: 0,
            symbiotic: false)
    }

    init(
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

/// What a machine is and how it stands.
public enum MachineRoutes {
    /// The routes onto a machine. Strongly held: the server ends before the machine goes.
    public static func routes(for machine: any MachineControl, version: String) -> [APIRoute] {
        [
            APIRoute(.get, "/") { _ throws(APIError) in
                let name = machine.configuration.name
                return try .json(InstanceInfo(appName: "symvmm", id: name, state: machine.state.rawValue, vmmVersion: version))
            },
            // Firecracker's clients look for its own field.
            APIRoute(.get, "/version") { _ throws(APIError) in try .json(["firecracker_version": version, "vmm_version": version]) },
            APIRoute(.get, "/summary") { _ throws(APIError) in try .json(summary(of: machine)) },
        ] + StatisticsRoutes.routes(for: machine)
    }

    private static func summary(of machine: any MachineControl) -> MachineSummary {
        let configuration = machine.configuration
        let statistics = machine.exitStatistics()
        return MachineSummary(
            name: configuration.name, pid: getpid(), state: machine.state.rawValue, vcpuCount: configuration.vcpuCount,
            memoryMebibytes: configuration.memoryByteCount >> 20, uptimeNanoseconds: statistics.uptimeNanoseconds,
            exitCount: statistics.exitCount, symbiotic: configuration.symbiotic)
    }
}
