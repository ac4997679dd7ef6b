// SPDX-License-Identifier: Apache-2.0

package import VMMAPI

internal import Glibc
internal import VMMModel
package import VMMSandbox

/// The routes that describe a machine.
package enum MachineRoutes {
    /// Creates the routes. They hold a strong reference to the machine: the server ends before the machine.
    package static func routes(
        for machine: any MachineControl, version: String, style: APIStyle = .own, sandbox: SandboxMode = .off
    ) -> [APIRoute] {
        [
            APIRoute(.get, "/", lane: .life) { _ throws(APIError) in
                let name = machine.configuration.name
                let state = machine.state.rawValue
                return try .json(
                    style == .own
                        ? InstanceInfo(id: name, state: state, version: version)
                        : InstanceInfo(id: name, state: state, version: APIStyle.firecrackerVersion, program: "Firecracker"))
            },
            // `VersionInfo` also has the field that Firecracker's clients read.
            APIRoute(.get, "/version", lane: .life) { _ throws(APIError) in
                try style == .own ? .json(VersionInfo(version: version)) : .json(["firecracker_version": APIStyle.firecrackerVersion])
            }, APIRoute(.get, "/summary", lane: .life) { _ throws(APIError) in try .json(summary(of: machine, sandbox)) },
        ] + StatisticsRoutes.routes(for: machine)
    }

    private static func summary(of machine: any MachineControl, _ sandbox: SandboxMode) -> MachineSummary {
        let configuration = machine.configuration
        let statistics = machine.exitStatistics()
        return MachineSummary(
            name: configuration.name, pid: getpid(), state: machine.state.rawValue, vcpuCount: configuration.vcpuCount,
            memoryMebibytes: configuration.memoryByteCount >> 20, uptimeNanoseconds: statistics.uptimeNanoseconds,
            exitCount: statistics.exitCount, symbiotic: configuration.symbiotic, sandbox: sandbox.rawValue, warnings: machine.warnings)
    }
}
