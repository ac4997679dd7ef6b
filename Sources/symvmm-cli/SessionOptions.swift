// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMBase
internal import VMMControl
internal import VMMModel
internal import VMMSandbox

/// The values of `--sandbox`.
enum SandboxChoice: String, ExpressibleByArgument, CaseIterable {
    case on, off, log

    var mode: SandboxMode {
        switch self {
        case .on: .on
        case .off: .off
        case .log: .log
        }
    }
}

/// The values of `--symbiotic`.
enum SymbioticChoice: String, ExpressibleByArgument, CaseIterable {
    case on, off, auto, require

    var module: SymbioticModule {
        switch self {
        case .on, .off: .none
        case .auto: .auto
        case .require: .require
        }
    }
}

/// The options that `run` and `serve` have in common.
struct SessionOptions: ParsableArguments {
    @Option(
        name: .customLong("api-socket"), help: ArgumentHelp("Path of the control socket (default: by the VM's name).", valueName: "path"),
        completion: .file())
    var apiSocket: String?
    @Option(help: ArgumentHelp("Name of the VM (default: vm-PID).", valueName: "name"))
    var name: String?
    @Option(
        help: ArgumentHelp("Serial console: stdio, none, file:PATH[,limit=SIZE] or pty (default: stdio).", valueName: "console"),
        completion: .list(["stdio", "none", "file:", "pty"]))
    var console: String?
    @Option(
        help: ArgumentHelp(
            "Offer the guest the symbiotic interface: auto also brings it the module for its kernel, require fails without one (default: on).",
            valueName: "on|off|auto|require"))
    var symbiotic: SymbioticChoice?
    @OptionGroup var services: ServiceOptions
    @Option(
        name: .customLong("stats-file"), help: ArgumentHelp("Write the exit statistics as JSON when the VM ends.", valueName: "file"),
        completion: .file())
    var statsFile: String?
    @Option(
        help: ArgumentHelp(
            "Confine the VM's threads: off for no sandbox, log to report what it would refuse (default: on).", valueName: "on|off|log"))
    var sandbox: SandboxChoice?
    @Option(
        name: .customLong("allow-folder"),
        help: ArgumentHelp(
            "Let the API open files in a folder after the start (PATCH /drives, PUT /logger). May be repeated.", valueName: "folder"),
        completion: .directory)
    var allowFolder: [String] = []
    @Flag(help: "Print neither the path of the API (serve) nor the exit table at the end.")
    var quiet = false

    /// Changes a configuration by the given options.
    func apply(to resources: inout MachineResources) throws(VMMError) {
        if let name { resources.name = name }
        try services.apply(to: &resources)
        if let console { resources.console = try ConsoleConfiguration(option: console) }
        if let symbiotic {
            resources.symbiotic = symbiotic != .off
            resources.symbioticModule = symbiotic.module
        }
        if let statsFile { resources.statsFile = statsFile }
        if let apiSocket { resources.apiSocket = apiSocket }
        if let sandbox { resources.sandbox.mode = sandbox.mode }
        resources.sandbox.folders += allowFolder
    }

    /// Runs the VM, or waits for the API to start one, and reports its end.
    func run(_ resources: MachineResources, startsNow: Bool) throws {
        let end = try Session.run(resources, startsNow: startsNow, announces: !startsNow && !quiet)
        try Session.report(end, name: resources.name, quiet: quiet)
    }
}
