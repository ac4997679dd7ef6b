// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SwapBypass
internal import SymVMM

enum Switch: String, ExpressibleByArgument, CaseIterable {
    case on, off
}

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Boot a guest and show its console until it ends.",
        discussion: """
            On a terminal, Ctrl-A x ends the VM and Ctrl-A h lists the escapes.

            Examples:
              symvmm run --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 reboot=k panic=1" --memory 256M --cpus 2
              symvmm run --kernel vmlinuz --disk root.img --append "console=ttyS0 root=/dev/vda rw" --net tap=tap0

            Exit status: 0 the guest powered off or rebooted, 2 usage, 3 the host cannot, 4 the guest crashed, 130 interrupted.
            """)

    @Option(help: ArgumentHelp("Kernel: a bzImage or an ELF vmlinux.", valueName: "file"), completion: .file())
    var kernel: String?
    @Option(help: ArgumentHelp("Initial RAM disk.", valueName: "file"), completion: .file())
    var initrd: String?
    @Option(help: ArgumentHelp("The kernel's command line.", valueName: "text"))
    var append: String?
    @Option(help: ArgumentHelp("Guest memory, 1M to 1T (default: 256M).", valueName: "size"))
    var memory: String?
    @Option(help: ArgumentHelp("Number of vCPUs, 1 to 32 (default: 1).", valueName: "number"))
    var cpus: String?
    @Option(help: ArgumentHelp("Name of the VM (default: vm-PID).", valueName: "name"))
    var name: String?
    @Option(
        help: ArgumentHelp("Add a disk: FILE[,readonly][,id=ID][,sector=512|4096]. May be repeated.", valueName: "disk"),
        completion: .file())
    var disk: [String] = []
    @Option(help: ArgumentHelp("Add a network interface: tap=NAME[,mac=MAC]. May be repeated.", valueName: "net"))
    var net: [String] = []
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
    @Option(
        name: .customLong("api-socket"), help: ArgumentHelp("Path of the control socket (default: by name).", valueName: "path"),
        completion: .file())
    var apiSocket: String?
    @Option(
        help: ArgumentHelp("Read the configuration from a JSON file; options given here go first.", valueName: "file"), completion: .file())
    var config: String?
    @Flag(help: "Print no exit table at the end.")
    var quiet = false

    func run() throws {
        let launch = try launch()
        SignalWatcher.blockSignals()
        let swapConfiguration = try swap.map { text throws(ControlError) in try SwapConfiguration(option: text) }
        let end = try Session.run(launch, swapConfiguration)
        if !quiet { Words.error("\n" + end.report.table()) }
        if end.droppedConsoleByteCount > 0 { Words.error("symvmm: \(end.droppedConsoleByteCount) bytes of console output found no reader") }
        if let fault = end.statisticsFault { Words.error("symvmm: \(fault)") }
        switch end.outcome {
        case .crashed(let report):
            Words.error(report.text(of: launch.machine.name))
            throw ExitStatus.crash.code
        case .killed:
            throw ExitStatus.interrupted.code
        case .powerOff, .reset:
            if end.wasInterrupted { throw ExitStatus.interrupted.code }
            if end.statisticsFault != nil { throw ExitStatus.host.code }
        }
    }

    /// The configuration file with the options laid over it.
    func launch() throws(ControlError) -> LaunchConfiguration {
        var launch: LaunchConfiguration
        if let config {
            launch = try LaunchConfiguration(file: config)
            if let kernel { launch.machine.kernelPath = kernel }
        } else {
            guard let kernel else { throw .usage("no kernel: give --kernel FILE or --config FILE") }
            launch = LaunchConfiguration(machine: MachineConfiguration(name: LaunchConfiguration.derivedName, kernelPath: kernel))
            launch.machine.console = .stdio
        }
        if let name { launch.machine.name = name }
        if let initrd { launch.machine.initrdPath = initrd }
        if let append { launch.machine.commandLine = append }
        if let memory { launch.machine.memoryByteCount = try ByteCount.parseMemory(memory) }
        if let cpus {
            guard let count = Int(cpus) else { throw .usage("--cpus: '\(cpus)' is not a number: give 1 to 32") }
            launch.machine.vcpuCount = count
        }
        for text in disk {
            launch.machine.drives.append(try DriveConfiguration(option: text, index: launch.machine.drives.count))
        }
        for text in net {
            let index = launch.machine.networkInterfaces.count
            launch.machine.networkInterfaces.append(try NetworkInterfaceConfiguration(option: text, index: index))
        }
        if let console { launch.machine.console = try ConsoleConfiguration(option: console) }
        if let symbiotic { launch.machine.symbiotic = symbiotic == .on }
        if let statsFile { launch.statsFile = statsFile }
        if let apiSocket { launch.apiSocket = apiSocket }
        try launch.machine.checkConsistency()
        return launch
    }
}

/// Puts a machine and its session together.
enum Session {
    static func run(_ launch: LaunchConfiguration, _ swap: SwapConfiguration? = nil) throws(ControlError) -> MachineSession.End {
        let socket = try ControlSocket(path: launch.apiSocket, name: launch.machine.name, folder: RuntimeFolder())
        defer { socket.remove() }
        let console: ConsoleBackend
        do throws(KVMError) {
            console = try ConsoleBackend(launch.machine.console)
        } catch {
            throw .usage("--console: \(error)")
        }
        if let path = console.pseudoTerminalPath { Words.error("symvmm: the console is \(path)") }
        let services = try services(swap)
        let machine: VirtualMachine
        do throws(MachineError) {
            machine = try VirtualMachine(launch.machine, console: console.output, services: services)
        } catch {
            throw ControlError(error)
        }
        let session = MachineSession(machine: machine, console: console, launch: launch)
        let routes =
            MachineRoutes.routes(for: machine, version: SymVMMVersion.current) + SymCallRoutes.routes(for: machine)
            + services.flatMap { $0.routes() }
        let serial = machine.serial
        return try session.run(socket: socket, routes: routes, receive: { serial.receive($0) }, start: machine.start)
    }

    /// The services that the options ask for.
    private static func services(_ swap: SwapConfiguration?) throws(ControlError) -> [SymbioticService] {
        guard let swap else { return [] }
        do throws(KVMError) {
            return [try SwapBypassService(swap)]
        } catch {
            throw .host("--swap: \(error)")
        }
    }
}
