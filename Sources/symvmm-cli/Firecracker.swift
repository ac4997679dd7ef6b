// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VMMAPI
internal import VMMBase
internal import VMMControl
internal import VMMModel
internal import VMMPresentation
internal import VMMSandbox

/// Firecracker's command line: `symvmm firecracker`, or symvmm under the name `firecracker`.
struct FirecrackerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "firecracker", abstract: "Take Firecracker's place: its options, defaults, API and exit statuses.",
        discussion: """
            A symbolic link 'firecracker' to symvmm does the same, so that programs that start Firecracker start symvmm (docs/FIRECRACKER.md).

            Examples:
              symvmm firecracker --api-sock /tmp/vm.sock --id web
              symvmm firecracker --no-api --config-file vm.json

            Exit status: 0 the guest powered off or reset, 1 error, 148 to 157 as Firecracker, among them 152 wrong configuration, 153 wrong arguments,
            156 SIGHUP; SIGTERM and SIGINT end the process by that signal.
            """)

    @Option(name: .customLong("api-sock"), help: ArgumentHelp("Path of the API's socket.", valueName: "path"), completion: .file())
    var apiSocket = "/run/firecracker.socket"
    @Option(help: ArgumentHelp("Identifier of the VM.", valueName: "id"))
    var id = "anonymous-instance"
    @Option(
        name: .customLong("config-file"), help: ArgumentHelp("Configure and start the VM from a JSON file.", valueName: "file"),
        completion: .file())
    var configFile: String?
    @Flag(name: .customLong("no-api"), help: "Serve no API; requires --config-file.")
    var hasNoAPI = false
    @Option(name: .customLong("log-path"), help: ArgumentHelp("File or FIFO for the log.", valueName: "file"), completion: .file())
    var logPath: String?
    @Option(help: ArgumentHelp("Level of the log: Off, Error, Warning, Info, Debug, Trace.", valueName: "level"))
    var level: String?
    @Option(help: ArgumentHelp("Beginning of the names of the modules whose log lines are written.", valueName: "module"))
    var module: String?
    @Flag(name: .customLong("show-level"), help: "Log the level of each line.")
    var showsLevel = false
    @Flag(name: .customLong("show-log-origin"), help: "Log the source file and line of each line.")
    var showsOrigin = false
    @Option(name: .customLong("metrics-path"), help: ArgumentHelp("File or FIFO for metrics.", valueName: "file"), completion: .file())
    var metricsPath: String?
    @Option(help: ArgumentHelp("JSON file for the metadata service.", valueName: "file"), completion: .file())
    var metadata: String?
    @Option(name: .customLong("mmds-size-limit"), help: ArgumentHelp("Limit of the metadata in bytes.", valueName: "bytes"))
    var metadataLimit: Int?
    @Option(name: .customLong("http-api-max-payload-size"), help: ArgumentHelp("Most bytes of a request's body.", valueName: "bytes"))
    var payloadLimit = 51_200
    @Flag(name: .customLong("boot-timer"), help: "Accepted without effect.")
    var hasBootTimer = false
    @Flag(name: .customLong("no-seccomp"), help: "Run without the sandbox.")
    var hasNoFilter = false
    @Option(name: .customLong("seccomp-filter"), help: ArgumentHelp("Not offered by symvmm.", valueName: "file"))
    var filter: String?
    @Option(name: .customLong("start-time-us"), help: ArgumentHelp("Accepted without effect.", valueName: "time"))
    var startTime: UInt64?
    @Option(name: .customLong("start-time-cpu-us"), help: ArgumentHelp("Accepted without effect.", valueName: "time"))
    var startProcessorTime: UInt64?
    @Option(name: .customLong("parent-cpu-time-us"), help: ArgumentHelp("Accepted without effect.", valueName: "time"))
    var parentProcessorTime: UInt64?
    @Flag(name: .customLong("enable-pci"), help: "Not offered by symvmm.")
    var hasPCI = false
    @Flag(name: .customLong("snapshot-version"), help: "Not offered by symvmm.")
    var printsSnapshotVersion = false
    @Option(name: .customLong("describe-snapshot"), help: ArgumentHelp("Not offered by symvmm.", valueName: "file"))
    var snapshot: String?
    @Flag(help: "Print the version.")
    var version = false
    @Argument(parsing: .postTerminator, help: .hidden)
    var ignored: [String] = []

    /// Firecracker's exit statuses.
    private enum Status: Int32 {
        case success = 0
        case generic = 1
        case badConfiguration = 152
        case badArguments = 153
        case processorTime = 154
        case hangUp = 156
    }

    /// An error with its exit status.
    private struct Failure: Error {
        let error: VMMError
        let status: Status
    }

    /// Runs the command and ends the process.
    static func start(_ words: [String]) -> Never {
        let command: FirecrackerCommand
        do {
            command = try FirecrackerCommand.parse(words)
        } catch {
            if exitCode(for: error).isSuccess {
                Terminal.output(fullMessage(for: error) + "\n")
                exit(.success)
            }
            let line = message(for: error).split(whereSeparator: \.isNewline).joined(separator: " ")
            fail(.user("Arguments parsing error: \(line)"), .badArguments)
        }
        if command.version {
            Terminal.output("Firecracker v\(APIStyle.firecrackerVersion)\n\nsymvmm \(SymVMMVersion.current)\n")
            exit(.success)
        }
        do throws(Failure) {
            try command.checkOffered()
            exit(try command.serve())
        } catch {
            fail(error.error, error.status)
        }
    }

    /// The command's parser calls this for `symvmm firecracker`, which `main` handles before.
    func run() {
        FirecrackerCommand.start(Array(CommandLine.arguments.dropFirst(2)))
    }

    private static func fail(_ error: VMMError, _ status: Status) -> Never {
        Terminal.error("symvmm: \(error)".printable)
        exit(status)
    }

    private static func exit(_ status: Status) -> Never {
        Glibc.exit(status.rawValue)
    }

    /// Refuses what Firecracker has and symvmm has not.
    private func checkOffered() throws(Failure) {
        func refuse(_ option: String, _ what: String) -> Failure {
            Failure(error: .user("\(option): \(what) not offered by symvmm"), status: .badArguments)
        }
        if filter != nil { throw refuse("--seccomp-filter", "a filter of your own is") }
        if hasPCI { throw refuse("--enable-pci", "PCI is") }
        if printsSnapshotVersion || snapshot != nil { throw refuse("--snapshot-version and --describe-snapshot", "snapshot files are") }
        guard level == nil || chosenLevel != nil else {
            let known = LoggerConfiguration.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw Failure(error: .user("--level: '\(level ?? "")' is not one of \(known)"), status: .badConfiguration)
        }
        guard !hasNoAPI || configFile != nil else {
            throw Failure(error: .user("--no-api requires --config-file"), status: .badArguments)
        }
        guard payloadLimit > 0, metadataLimit ?? 1 > 0 else {
            throw Failure(error: .user("a limit is not above 0"), status: .badArguments)
        }
    }

    /// The level that the user chose; nil if there is none, or if it is none.
    private var chosenLevel: LoggerConfiguration.Level? {
        let plain = level?.lowercased() == "warn" ? "warning" : level?.lowercased()
        return LoggerConfiguration.Level.allCases.first { $0.rawValue.lowercased() == plain }
    }

    private func serve() throws(Failure) -> Status {
        let resources = try resources()
        let end: MachineSession.End
        do throws(VMMError) {
            var limits = APILimits()
            limits.bodyByteCount = payloadLimit
            limits.hasFirecrackersRefusal = true
            end = try Session.run(
                resources,
                socket: { () throws(VMMError) -> ControlSocket? in
                    try hasNoAPI ? nil : ControlSocket(path: apiSocket, nameIfFree: id)
                }, limits: limits, metadata: metadata, startsNow: configFile != nil)
        } catch {
            // With an API, Firecracker tells a configuration that does not start by a status of its own.
            throw Failure(error: error, status: configFile != nil && !hasNoAPI ? .badConfiguration : .generic)
        }
        return FirecrackerCommand.status(of: end, name: id)
    }

    /// The configuration: that of the file, if any, and the options.
    private func resources() throws(Failure) -> MachineResources {
        do throws(VMMError) {
            try MachineConfiguration.checkName(id)
            guard let configFile else { return try adding(MachineResources(name: id, registry: Services.registry(), style: .firecracker)) }
            return try adding(MachineResources(file: configFile, registry: Services.registry(), style: .firecracker, name: id))
        } catch {
            throw Failure(error: error, status: configFile != nil && !hasNoAPI ? .badConfiguration : .generic)
        }
    }

    private func adding(_ resources: MachineResources) throws(VMMError) -> MachineResources {
        var resources = resources
        var logger = resources.logger ?? LoggerConfiguration()
        if let logPath { logger.path = logPath }
        if let chosenLevel { logger.level = chosenLevel }
        if showsLevel { logger.showsLevel = true }
        if showsOrigin { logger.showsOrigin = true }
        if let module { logger.module = module }
        if logger != LoggerConfiguration() { resources.logger = logger }
        if hasNoFilter { resources.sandbox.mode = .off }
        // As with Firecracker, the API may open any file after the start.
        resources.sandbox.folders = ["/"]
        resources.metadataByteLimit = metadataLimit ?? payloadLimit
        if let metricsPath { resources.metrics = MetricsConfiguration(path: metricsPath) }
        return resources
    }

    /// Firecracker's exit status. Ends the process by the signal that ended the VM, since Firecracker does not catch it.
    private static func status(of end: MachineSession.End, name: String) -> Status {
        if let number = end.signal {
            if number == SIGHUP { return .hangUp }
            if number == SIGXCPU { return .processorTime }
            SignalWatcher.die(of: number)
        }
        if let fault = end.statisticsFault { Terminal.error("symvmm: \(fault.printable)") }
        switch end.outcome {
        case .crashed(let report):
            Terminal.error(report.text(of: name))
            // A triple fault is how a guest without another way resets the machine.
            return report.isTripleFault ? .success : .generic
        case .powerOff, .reset, .killed, .reported: return end.statisticsFault == nil ? .success : .generic
        }
    }
}
