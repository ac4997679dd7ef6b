// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI
package import VMMBase
package import VMMModel

internal import Glibc
internal import Synchronization

/// One run of a VM with all that goes beside it: signals, console, the API's server; and the tidying up, whatever the end.
package final class MachineSession: Sendable {
    /// How a run ended.
    package struct End: Sendable {
        /// How the machine ended.
        package let outcome: TerminationReason
        /// Whether there was a machine at all.
        package let hasRun: Bool
        /// Whether the user pressed Ctrl-C, or left at the console, or ended a VM that was to start at once before it had.
        package let wasInterrupted: Bool
        /// All exits of the run.
        package let report: ExitReport
        /// Bytes of console output that nobody took.
        package let droppedConsoleByteCount: UInt64
        /// Why the statistics file could not be written, when it could not.
        package let statisticsFault: String?
    }

    /// Seconds that a guest has to shut down after SIGTERM or the first SIGINT.
    private static let grace: UInt32 = 10

    /// Nanoseconds within which signals of different kinds are one wish.
    private static let oneWish: UInt64 = 1_000_000_000

    private let host: MachineHost
    private let stopper: MachineStopper
    private let interrupted = Atomic<Bool>(false)
    /// When the first signal came, in nanoseconds of CLOCK_MONOTONIC.
    private let firstSignal = Atomic<UInt64>(0)

    /// Puts a session together; nothing has started yet. `SignalWatcher.blockSignals()` was called before any thread was made.
    ///
    /// - Parameters:
    ///   - tell: tells the user in a line where a pseudo-terminal is, or what is to be known of the machine.
    ///   - build: makes the machine when it is to start.
    package init(_ resources: MachineResources, tell: @escaping @Sendable (String) -> Void, build: @escaping MachineHost.Builder)
        throws(ControlError)
    {
        host = try MachineHost(resources, tell: tell, build: build)
        stopper = MachineStopper(host)
    }

    /// The machine of this session; nil before it has begun. Any thread.
    package var machine: VirtualMachine? { host.machine as? VirtualMachine }

    /// Serves the API, waits for the end of the machine, writes the statistics file and leaves nothing behind.
    ///
    /// - Parameters:
    ///   - socket: bound already, so that a VM of the same name was found before the machine was made.
    ///   - startsNow: whether the configuration is complete and the machine starts at once, before the API answers; otherwise the API
    ///     configures and starts it.
    package func run(socket: ControlSocket, startsNow: Bool) throws(ControlError) -> End {
        let statsFile = host.resources.statsFile
        if let statsFile { try MachineSession.checkWritable(statsFile) }
        do throws(KVMError) {
            _ = try SignalWatcher { [self] request, count in take(request, count) }
        } catch {
            throw .host(error.description)
        }
        defer { host.finish() }
        try host.openMetrics()
        if startsNow {
            do throws(MachineError) {
                try host.start()
            } catch {
                // Ended while it was loading: no fault of anybody's.
                guard host.wasKilled else { throw ControlError(error) }
            }
        }
        let server: APIServer
        do throws(ControlError) {
            server = try APIServer(socket: socket, router: host.router())
        } catch {
            host.kill()
            _ = host.wait()
            throw error
        }
        defer { server.stop() }
        let outcome = host.wait()
        host.finish()
        let report = ExitReport(host.exitStatistics(), name: host.configuration.name)
        let hasRun = host.machine != nil
        let fault = hasRun ? statsFile.flatMap { MachineSession.write(report, to: $0) } : nil
        return End(
            outcome: outcome, hasRun: hasRun,
            wasInterrupted: interrupted.load(ordering: .relaxed) || host.wasLeft || (startsNow && !hasRun), report: report,
            droppedConsoleByteCount: host.droppedConsoleByteCount, statisticsFault: fault)
    }

    /// Writes the report as JSON, all or nothing; returns what went wrong.
    private static func write(_ report: ExitReport, to path: String) -> String? {
        do {
            try SmallFile.write(path, JSONText.encode(report, pretty: true) + [UInt8(ascii: "\n")])
            return nil
        } catch {
            return "--stats-file: \(error)"
        }
    }

    /// A file that cannot be written is said before a guest has run for hours.
    private static func checkWritable(_ path: String) throws(ControlError) {
        guard !path.isEmpty, !path.hasSuffix("/") else { throw .usage("--stats-file: '\(path)' is not a file's name") }
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        // SAFETY: the string lives for the call.
        guard unsafe access(folder, W_OK | X_OK) == 0 else { throw .usage("--stats-file: \(KVMError.last("write in \(folder)"))") }
    }

    /// The first signal asks the guest; another one ends it, as does a guest that cannot be asked.
    ///
    /// A host that shuts down, or a terminal that is closed, sends several at once, SIGHUP among them: those are one wish. Ctrl-C twice is two.
    private func take(_ request: SignalWatcher.Request, _ count: Int) {
        let now = TickClock.monotonicNanoseconds()
        if count == 1 { firstSignal.store(now, ordering: .relaxed) }
        let isLater = now &- firstSignal.load(ordering: .relaxed) >= MachineSession.oneWish
        let isSecondInterrupt = interrupted.load(ordering: .relaxed) && request == .interrupt
        if request == .interrupt { interrupted.store(true, ordering: .relaxed) }
        if count == 1 {
            stopper.stop(within: MachineSession.grace)
        } else if request != .hangUp, isLater || isSecondInterrupt {
            host.kill()
        }
    }
}
