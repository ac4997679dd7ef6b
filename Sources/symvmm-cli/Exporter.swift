// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VMMAPI
internal import VMMBase
internal import VMMControl
internal import VMMExporter

struct ExporterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exporter", abstract: "Serve the statistics of all running VMs to Prometheus.",
        discussion: """
            GET /metrics has the samples of all your VMs, in OpenMetrics or in Prometheus' older text form, as the client asks (docs/METRICS.md). It can
            only be read. Everyone who can connect to the address can read it. A VM that does not answer in time is left out and counted.

            Ends with status 0 on SIGINT or SIGTERM.

            Examples:
              symvmm exporter --listen 127.0.0.1:9464 &
              curl http://127.0.0.1:9464/metrics
              symvmm exporter --listen unix:/run/exporter.sock --sockets '/run/symvmm-*/symvmm/*.sock'
            """)

    @Option(
        help: ArgumentHelp(
            "Where to listen: ADDRESS:PORT with a numeric address (port 0: any free port), or unix:PATH.", valueName: "address"))
    var listen = "127.0.0.1:9464"
    @Option(
        help: ArgumentHelp(
            "Also serve the VMs with these control sockets: a shell pattern, in quotes. May be repeated.", valueName: "pattern"))
    var sockets: [String] = []
    @Option(parsing: .unconditional, help: ArgumentHelp("Seconds for the VMs to answer, 1 to 60.", valueName: "seconds"))
    var timeout: Int64 = 3
    @Flag(help: "Do not print where the metrics are.")
    var quiet = false

    func validate() throws {
        guard (1...60).contains(timeout) else { throw ValidationError("--timeout: give 1 to 60 seconds") }
        if sockets.contains("") { throw ValidationError("--sockets: empty") }
    }

    func run() throws {
        let address = try ListenAddress(listen, option: "--listen")
        try ProcessHardening.apply()
        SignalWatcher.blockSignals()
        _ = try RuntimeFolder()
        let socket = try address.listen(option: "--listen")
        defer { socket.remove() }
        let isEnding = Monitor(false)
        _ = try SignalWatcher { _, _, count in
            isEnding.update { $0 = true }
            // The first one waits for a collection that is running.
            guard count > 1 else { return }
            socket.remove()
            _exit(ExitStatus.success.rawValue)
        }
        let exporter = Exporter(patterns: sockets, timeout: timeout)
        let server = try APIServer(socket: socket, router: APIRouter(exporter.routes))
        try server.serve()
        let path = socket.place.hasPrefix("http") ? "/metrics" : ""
        if !quiet { Terminal.error("symvmm: the metrics are at \(socket.place)\(path)".printable) }
        isEnding.wait { $0 ? true : nil }
        server.stop(endsEventLoop: false)
    }
}
