// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// One run of a machine with all that goes beside it: signals, console input, the API's server; and the tidying up, whatever the end.
public final class MachineSession: Sendable {
    /// How a run ended.
    public struct End: Sendable {
        /// How the machine ended.
        public let outcome: MachineOutcome
        /// Whether the user pressed Ctrl-C.
        public let wasInterrupted: Bool
        /// All exits of the run.
        public let report: ExitReport
        /// Bytes of console output that nobody took.
        public let droppedConsoleByteCount: UInt64
    }

    /// Seconds that a guest has to shut down after SIGTERM or the first SIGINT.
    private static let grace: UInt32 = 10

    private let machine: any MachineControl
    private let console: ConsoleBackend
    private let launch: LaunchConfiguration
    private let interrupted = Atomic<Bool>(false)

    /// Puts a session together; nothing has started yet. `SignalWatcher.blockSignals()` was called before any thread was made.
    public init(machine: any MachineControl, console: ConsoleBackend, launch: LaunchConfiguration) {
        self.machine = machine
        self.console = console
        self.launch = launch
    }

    /// Serves the API, starts the machine, waits for its end, writes the statistics file and leaves nothing behind.
    ///
    /// - Parameters:
    ///   - socket: bound already, so that a VM of the same name was found before the machine was made.
    ///   - routes: of the machine and of its services.
    ///   - receive: the serial port's input: takes a byte, or false when its FIFO is full.
    ///   - start: starts the machine.
    public func run(
        socket: ControlSocket, routes: [APIRoute], receive: @escaping @Sendable (UInt8) -> Bool, start: () throws(MachineError) -> Void
    ) throws(ControlError) -> End {
        let server = try APIServer(socket: socket, router: APIRouter(routes))
        defer { server.stop() }
        do throws(KVMError) {
            _ = try SignalWatcher { [self] request, count in take(request, count) }
            try console.start(receive: receive) { [self] in
                interrupted.store(true, ordering: .relaxed)
                machine.kill()
            }
        } catch {
            console.stop()
            throw .host(error.description)
        }
        defer { console.stop() }
        do throws(MachineError) {
            try start()
        } catch {
            throw ControlError(error)
        }
        let outcome = machine.wait()
        console.stop()
        let report = ExitReport(machine.exitStatistics(), name: machine.configuration.name)
        if let path = launch.statsFile { try MachineSession.write(report, to: path) }
        return End(
            outcome: outcome, wasInterrupted: interrupted.load(ordering: .relaxed), report: report,
            droppedConsoleByteCount: console.droppedByteCount)
    }

    /// Writes the report as JSON, all or nothing.
    public static func write(_ report: ExitReport, to path: String) throws(ControlError) {
        do {
            try SmallFile.write(path, JSONText.encode(report, pretty: true) + [UInt8(ascii: "\n")])
        } catch {
            throw .host("--stats-file: \(error)")
        }
    }

    /// The first signal asks the guest; the second, or a guest that cannot be asked, ends it.
    private func take(_ request: SignalWatcher.Request, _ count: Int) {
        if request == .interrupt { interrupted.store(true, ordering: .relaxed) }
        guard count == 1, machine.state == .running, machine.requestPowerOff() else { return machine.kill() }
        let timer = try? Thread(name: "grace") { [machine] in
            sleep(MachineSession.grace)
            machine.kill()
        }
        if timer == nil { machine.kill() }
    }
}
