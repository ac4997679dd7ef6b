// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMControl
internal import VMMModel
internal import VMMPresentation

/// The VM that a command speaks to.
struct Target: ParsableArguments {
    @Argument(
        help: "Name of a running VM, or the path of its control socket (with a slash).",
        completion: .custom { _, _, _ in RunningMachines.names() })
    var name: String

    func socket() throws(ControlError) -> String {
        try Target.socket(of: name)
    }

    /// The control socket of a VM that lives.
    static func socket(of name: String) throws(ControlError) -> String {
        if name.contains("/") {
            guard ControlSocket.isAlive(name) else { throw .usage("\(name): no VM answers there") }
            return name
        }
        try MachineConfiguration.checkName(name)
        let path = try RuntimeFolder().socketPath(of: name)
        guard ControlSocket.isAlive(path) else { throw .usage("no VM named '\(name)' is running: see 'symvmm ps'") }
        return path
    }
}

struct Stop: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Ask the guest to power off; end the VM when it does not in time.",
        discussion: "Example:\n  symvmm stop vm1 --timeout 30"
    )

    @OptionGroup var target: Target
    @Option(help: ArgumentHelp("Seconds that the guest has.", valueName: "seconds"))
    var timeout: UInt32 = 30
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let path = try target.socket()
        let client = APIClient()
        defer { client.stop() }
        let hasPoweredOff = try RunningMachines.stop(path, client: client, timeout: timeout)
        try Done(name: target.name, result: hasPoweredOff ? "powered off" : "killed").say(json)
    }
}

struct Kill: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kill", abstract: "End a VM at once, as if its power were cut.", discussion: "Example:\n  symvmm kill vm1")

    @OptionGroup var target: Target
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let path = try target.socket()
        let client = APIClient()
        defer { client.stop() }
        try RunningMachines.kill(path, client: client)
        try Done(name: target.name, result: "killed").say(json)
    }
}

struct Pause: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause", abstract: "Hold a VM's vCPUs between two exits.", discussion: "Example:\n  symvmm pause vm1")

    @OptionGroup var target: Target
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try RunningMachines.setState("Paused", socket: target.socket())
        try Done(name: target.name, result: "paused").say(json)
    }
}

struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Let a paused VM go on.", discussion: "Example:\n  symvmm resume vm1")

    @OptionGroup var target: Target
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try RunningMachines.setState("Resumed", socket: target.socket())
        try Done(name: target.name, result: "resumed").say(json)
    }
}

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Say what this host has for virtual machines, and what follows.",
        discussion: "Exit status 0 when a Linux guest can run here, otherwise 3.\n\nExample:\n  symvmm doctor --json")

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let report = HostReport.examine()
        if json { try Words.json(report) } else { Words.output(report.text) }
        if !report.linuxGuests { throw ExitStatus.host.code }
    }
}

/// What a command has done, in words or as JSON.
struct Done: Encodable {
    let name: String
    let result: String

    func say(_ asJSON: Bool) throws {
        if asJSON { try Words.json(self) } else { Words.output("\(name): \(result)\n") }
    }
}
