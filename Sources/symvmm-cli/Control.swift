// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMControl
internal import VMMModel
internal import VMMPresentation
internal import VMMSandbox

/// The VM to which a command connects.
struct Target: ParsableArguments {
    @Argument(
        help: "Name of a running VM, or the path of its control socket (with a slash).",
        completion: .custom { _, _, _ in RunningMachines.names() })
    var name: String

    func socket() throws(VMMError) -> String {
        try Target.socket(of: name)
    }

    /// The control socket of a running VM.
    static func socket(of name: String) throws(VMMError) -> String {
        if name.contains("/") {
            try check(name, as: name, orThrow: .user("\(name): no VM answers there"))
            return name
        }
        try MachineConfiguration.checkName(name)
        let path = try RuntimeFolder().socketPath(of: name)
        try check(path, as: name, orThrow: .user("no VM named '\(name)' is running: see 'symvmm ps'"))
        return path
    }

    private static func check(_ path: String, as name: String, orThrow error: VMMError) throws(VMMError) {
        guard !ControlSocket.isAlive(path) else { return }
        throw ControlSocket.isLeftBehind(path) ? RunningMachines.killedError(name) : error
    }
}

/// The VMs to which a command connects, one after the other.
struct Targets: ParsableArguments {
    @Argument(
        help: "Names of running VMs, or paths of their control sockets (with a slash).",
        completion: .custom { _, _, _ in RunningMachines.names() })
    var names: [String]

    /// Acts on each VM and prints its result; an error with one VM does not keep the command from the next.
    ///
    /// - Parameter act: gets the control socket, and returns the result's text.
    func forEach(_ json: Bool, _ act: (String) throws(VMMError) -> String) throws {
        var done: [Done] = []
        var failure: VMMError?
        for name in names {
            do throws(VMMError) {
                done.append(Done(name: name, result: try act(Target.socket(of: name))))
                if !json, let last = done.last { Terminal.output(last.text) }
            } catch {
                // The last error ends the command; main prints it.
                if let failure { Terminal.error("symvmm: \(failure)".printable) }
                failure = error
            }
        }
        if json, names.count > 1 { try Terminal.json(done) } else if json { try done.first?.print(true) }
        if let failure { throw failure }
    }
}

struct Stop: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Press the power button; kill the VM if the guest does not power off in time.",
        discussion: "Examples:\n  symvmm stop vm1 --timeout 30\n  symvmm stop vm1 vm2 vm3"
    )

    @OptionGroup var targets: Targets
    @Option(parsing: .unconditional, help: ArgumentHelp("Seconds for each guest to power off.", valueName: "seconds"))
    var timeout: UInt32 = 30
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let client = APIClient(timeout: 5)
        defer { client.stop() }
        // All guests shut down at the same time.
        if targets.names.count > 1 {
            for name in targets.names {
                if let path = try? Target.socket(of: name) { RunningMachines.pressPowerButton(path, client: client) }
            }
        }
        try targets.forEach(json) { (path) throws(VMMError) in
            try RunningMachines.stop(path, client: client, timeout: timeout) ? "powered off" : "killed"
        }
    }
}

struct Kill: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kill", abstract: "Kill a VM at once, like a power failure.",
        discussion: """
            If the VM's process is stopped or does not answer for 5 seconds, the command kills the process.

            Examples:
              symvmm kill vm1
              symvmm kill vm1 vm2
            """)

    @OptionGroup var targets: Targets
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let client = APIClient(timeout: 5)
        defer { client.stop() }
        try targets.forEach(json) { (path) throws(VMMError) in
            try RunningMachines.kill(path, client: client)
            return "killed"
        }
    }
}

struct Pause: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause", abstract: "Pause a VM's vCPUs.", discussion: "Example:\n  symvmm pause vm1")

    @OptionGroup var targets: Targets
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try targets.forEach(json) { (path) throws(VMMError) in
            try RunningMachines.setState(.paused, socket: path)
            return "paused"
        }
    }
}

struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Resume a paused VM.", discussion: "Example:\n  symvmm resume vm1")

    @OptionGroup var targets: Targets
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try targets.forEach(json) { (path) throws(VMMError) in
            try RunningMachines.setState(.resumed, socket: path)
            return "resumed"
        }
    }
}

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Check this host's support for virtual machines.",
        discussion: "Exit status 0 if Linux guests can run here, otherwise 3.\n\nExample:\n  symvmm doctor --json")

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let report = HostReport.examine(
            sandbox: SandboxReport(seccompFilters: SandboxSupport.hasFilters, landlockVersion: SandboxSupport.landlockVersion))
        if json { try Terminal.json(report) } else { Terminal.output(report.text) }
        if !report.linuxGuests { throw ExitStatus.host.code }
    }
}

/// The result of a command, as text or JSON.
struct Done: Encodable {
    let name: String
    let result: String

    /// A line of text.
    var text: String { "\(name): \(result)\n" }

    func print(_ asJSON: Bool) throws {
        if asJSON { try Terminal.json(self) } else { Terminal.output(text) }
    }
}
