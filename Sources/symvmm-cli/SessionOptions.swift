// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMBase
internal import VMMControl
internal import VMMModel

/// What `run` and `serve` both take: all that the API cannot say before there is a VM.
struct SessionOptions: ParsableArguments {
    @Option(
        name: .customLong("api-socket"), help: ArgumentHelp("Path of the control socket (default: by name).", valueName: "path"),
        completion: .file())
    var apiSocket: String?
    @Option(help: ArgumentHelp("Name of the VM (default: vm-PID).", valueName: "name"))
    var name: String?
    @Option(
        help: ArgumentHelp("Serial console: stdio, none, file:PATH[,limit=SIZE] or pty (default: stdio).", valueName: "console"),
        completion: .list(["stdio", "none", "file:", "pty"]))
    var console: String?
    @Option(help: ArgumentHelp("Offer the guest the symbiotic interface, on or off (default: on).", valueName: "on|off"))
    var symbiotic: Switch?
    @OptionGroup var services: ServiceOptions
    @Option(
        name: .customLong("stats-file"), help: ArgumentHelp("Write the exit statistics as JSON at the end.", valueName: "file"),
        completion: .file())
    var statsFile: String?
    @Flag(help: "Print no exit table at the end.")
    var quiet = false

    /// Lays the options that were given over a configuration.
    func apply(to resources: inout MachineResources) throws(ControlError) {
        if let name { resources.name = name }
        try services.apply(to: &resources)
        if let console { resources.console = try ConsoleConfiguration(option: console) }
        if let symbiotic { resources.symbiotic = symbiotic == .on }
        if let statsFile { resources.statsFile = statsFile }
        if let apiSocket { resources.apiSocket = apiSocket }
    }

    /// Runs the VM, or waits for one to be configured, to its end, and reports that.
    func run(_ resources: MachineResources, startsNow: Bool) throws {
        let end = try Session.run(resources, startsNow: startsNow)
        try Session.report(end, name: resources.name, quiet: quiet)
    }
}
