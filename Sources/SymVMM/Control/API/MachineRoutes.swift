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

/// The resources that every machine has.
public enum MachineRoutes {
    /// The routes onto a machine. Strongly held: the server ends before the machine goes.
    public static func routes(for machine: any MachineControl, version: String) -> [APIRoute] {
        [
            APIRoute(.get, "/") { _ throws(APIError) in
                let name = machine.configuration.name
                return try .json(InstanceInfo(appName: "symvmm", id: name, state: machine.state.rawValue, vmmVersion: version))
            },
            APIRoute(.get, "/version") { _ throws(APIError) in try .json(["vmm_version": version]) },
            APIRoute(.get, "/summary") { _ throws(APIError) in try .json(summary(of: machine)) },
            APIRoute(.patch, "/vm") { request throws(APIError) in try changeState(of: machine, request) },
            APIRoute(.put, "/actions") { request throws(APIError) in try act(on: machine, request) },
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

    private static func changeState(of machine: any MachineControl, _ request: APIRequest) throws(APIError) -> APIResponse {
        let state = try word("state", in: request)
        let now = machine.state
        guard now == .running || now == .paused else {
            throw APIError(400, "the VM cannot be paused or resumed: it is \(now.rawValue.lowercased())")
        }
        switch state {
        case "Paused": machine.pause()
        case "Resumed": machine.resume()
        default: throw APIError(400, "state: '\(state)' is not a state: give Paused or Resumed")
        }
        return .noContent
    }

    private static func act(on machine: any MachineControl, _ request: APIRequest) throws(APIError) -> APIResponse {
        let action = try word("action_type", in: request)
        switch action {
        // Firecracker's word for the same wish: that the guest shut itself down. Here the power button carries it, for there is no keyboard.
        case "Stop", "SendCtrlAltDel":
            guard machine.state == .running else {
                throw APIError(400, "the guest cannot be asked: the VM is \(machine.state.rawValue.lowercased())")
            }
            guard machine.requestPowerOff() else {
                throw APIError(400, "the guest does not listen to the power button: use Kill to end it")
            }
        case "Kill": machine.kill()
        case "InstanceStart": throw APIError(400, "the VM has been started")
        default: throw APIError(400, "action_type: '\(action)' is not an action: give Stop, Kill or SendCtrlAltDel")
        }
        return .noContent
    }

    /// The one field of a request, a string.
    private static func word(_ field: String, in request: APIRequest) throws(APIError) -> String {
        var fields = try request.fields()
        do throws(ControlError) {
            let word = try fields.requiredString(field)
            try fields.checkAllTaken()
            return word
        } catch {
            throw APIError(400, error.message)
        }
    }
}
