// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SwapBypass
internal import SymVMM

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait for a guest to be configured and started over the API.",
        discussion: """
            The resources, their fields and the answers are Firecracker's where the thing is the same (docs/openapi.yaml).

            Example:
              symvmm serve --api-socket /tmp/vm.sock &
              alias vm='curl --unix-socket /tmp/vm.sock -X PUT'
              vm http://localhost/boot-source -d '{"kernel_image_path": "vmlinuz"}'
              vm http://localhost/actions -d '{"action_type": "InstanceStart"}'

            Ends with the guest; exit status as of 'symvmm run', and 0 when it was ended before a guest was started.
            """)

    @Option(
        name: .customLong("api-socket"), help: ArgumentHelp("Path of the control socket (default: by name).", valueName: "path"),
        completion: .file())
    var apiSocket: String?
    @Option(help: ArgumentHelp("Name of the VM (default: vm-PID).", valueName: "name"))
    var name: String?
    @Option(
        help: ArgumentHelp("Serial console: stdio, none, file:PATH or pty (default: stdio).", valueName: "console"),
        completion: .list(["stdio", "none", "file:", "pty"]))
    var console: String?
    @Option(help: ArgumentHelp("Offer the guest the symbiotic interface, on or off (default: on).", valueName: "on|off"))
    var symbiotic: Switch?
    @Option(
        help: ArgumentHelp(
            "Add a swap disk in the host's memory or a file: SIZE[,path=FILE[,budget=SIZE]][,bypass=on|off].", valueName: "swap"))
    var swap: String?
    @Option(
        name: .customLong("stats-file"), help: ArgumentHelp("Write the exit statistics as JSON at the end.", valueName: "file"),
        completion: .file())
    var statsFile: String?
    @Flag(help: "Print no exit table at the end.")
    var quiet = false

    func run() throws {
        var resources = MachineResources(name: name ?? LaunchConfiguration.derivedName)
        try MachineConfiguration.checkName(resources.name)
        if let console { resources.console = try ConsoleConfiguration(option: console) }
        if let symbiotic { resources.symbiotic = symbiotic == .on }
        resources.statsFile = statsFile
        resources.apiSocket = apiSocket
        let swapConfiguration = try swap.map { text throws(ControlError) in try SwapConfiguration(option: text) }
        let end = try Session.run(resources, swapConfiguration, startsNow: false)
        try Session.report(end, name: resources.name, quiet: quiet)
    }
}
