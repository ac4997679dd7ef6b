// SPDX-License-Identifier: Apache-2.0

package import VMMAPI

internal import Glibc
internal import VMMModel

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

/// What a machine is and how it stands.
package enum MachineRoutes {
    /// The routes onto a machine. Strongly held: the server ends before the machine goes.
    package static func routes(for machine: any MachineControl, version: String) -> [APIRoute] {
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
