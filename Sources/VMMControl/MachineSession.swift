// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI
package import VMMBase
package import VMMModel
package import VMMSandbox

internal import Glibc
internal import Synchronization

/// Runs one VM: handles signals, console and API server, and cleans up in every case.
package final class MachineSession: Sendable {
    /// The result of a run.
    package struct End: Sendable {
        /// Why the run ended.
        package let outcome: TerminationReason
        /// Whether the machine was started.
        package let hasRun: Bool
        /// Whether the user interrupted the run: by SIGINT (Ctrl-C), at the console, or, with `startsNow`, by ending the VM before its start.
        package let wasInterrupted: Bool
        /// The exit statistics of the whole run.
        package let report: ExitReport
        /// The first signal that ended a VM of `APIStyle.firecracker`; nil if none did.
        package let signal: Int32?
        /// Number of dropped bytes of console output.
        package let droppedConsoleByteCount: UInt64
        /// Why the statistics file could not be written; nil without an error.
        package let statisticsFault: String?
    }

    /// Seconds for the guest to power off after SIGTERM or the first SIGINT.
    private static let grace: UInt32 = 10

    /// Signals of different kinds within this many nanoseconds count as one request.
    private static let coalescingTime: UInt64 = 1_000_000_000

    /// Microseconds for the rest of the work after the guest's end when a signal asks for the end of the process.
    private static let endGrace: UInt32 = 1_000_000
    /// The exit status of a run that a signal ended.
    private static let interruptedStatus: Int32 = 130

    private let sandbox: Sandbox?
    private let controller: VMController
    private let stopper: MachineStopper
    private let interrupted = Atomic<Bool>(false)
    /// The guest has ended, and console and terminal are finished: only reports are written.
    private let hasEnded = Atomic<Bool>(false)
    /// A signal after the guest's end: the thread of signals ends the process.
    private let isLeaving = Atomic<Bool>(false)
    /// The first signal; 0 without one.
    private let signalNumber = Atomic<Int32>(0)
    /// Time of the first signal, in nanoseconds of CLOCK_MONOTONIC.
    private let firstSignal = Atomic<UInt64>(0)

    /// Creates a session; `run` starts it. Call `SignalWatcher.blockSignals()` before any other thread exists.
    ///
    /// - Parameters:
    ///   - resources: the configuration.
    ///   - sandbox: confines the threads; nil without a sandbox.
    ///   - notify: prints a line for the user: the path of a pseudo-terminal, warnings about the machine.
    ///   - build: builds the machine when it is started.
    package init(
        _ resources: MachineResources, sandbox: Sandbox?, notify: @escaping @Sendable (String) -> Void,
        build: @escaping VMController.Builder
    ) throws(VMMError) {
        self.sandbox = sandbox
        sandbox?.install()
        try FileThread.start()
        controller = try VMController(resources, sandbox: sandbox, notify: notify, build: build)
        stopper = try MachineStopper(controller)
    }

    /// Puts the contents of a file into the metadata service.
    package func loadMetadata(_ path: String) throws(VMMError) {
        try controller.loadMetadata(path)
    }

    /// The machine; nil before the start. Thread-safe.
    package var machine: VirtualMachine? { controller.virtualMachine }

    /// Serves the API until the run ends, then writes the statistics file and cleans up.
    ///
    /// - Parameters:
    ///   - socket: the control socket; nil to serve no API. The caller binds it, and so finds a running VM of the same name before anything is built.
    ///   - limits: limits for the API's clients.
    ///   - startsNow: true to start the machine before the API is served; false if the API configures and starts it.
    package func run(socket: ControlSocket?, limits: APILimits = APILimits(), startsNow: Bool) throws(VMMError) -> End {
        sandbox?.allow((socket?.folders ?? []).map { AllowedPlace($0, .remove) })
        ProcessUse.prepare()
        let statsFile = controller.resources.statsFile
        if let statsFile { try MachineSession.checkWritable(statsFile) }
        _ = try SignalWatcher { [self] request, number, count in handle(request, number, count, socket) }
        defer { controller.finish() }
        try controller.openMetrics()
        // Makes its threads before the guest runs.
        let server: APIServer?
        if let socket {
            server = try APIServer(socket: socket, router: controller.router(stopper: stopper), limits: limits)
        } else {
            server = nil
        }
        defer { server?.stop(endsEventLoop: false) }
        if startsNow {
            do throws(VMMError) {
                try controller.start()
            } catch {
                // The user killed the VM while it loaded its files: not an error.
                guard controller.wasKilled else { throw error }
            }
        }
        do throws(VMMError) {
            try server?.serve()
        } catch {
            controller.kill()
            _ = controller.wait()
            throw error
        }
        sandbox?.enterMainThread()
        let outcome = controller.wait()
        controller.finish()
        hasEnded.store(true, ordering: .releasing)
        let report = ExitReport(controller.exitStatistics(), name: controller.configuration.name)
        let hasRun = controller.machine != nil
        let fault = hasRun ? statsFile.flatMap { write(report, to: $0) } : nil
        while isLeaving.load(ordering: .acquiring) { usleep(MachineSession.endGrace) }
        return End(
            outcome: outcome, hasRun: hasRun,
            // Before the start there is nothing that a signal could interrupt.
            wasInterrupted: hasRun ? interrupted.load(ordering: .relaxed) || controller.wasLeft : startsNow, report: report,
            signal: controller.style == .firecracker && signalNumber.load(ordering: .relaxed) != 0
                ? signalNumber.load(ordering: .relaxed) : nil,
            droppedConsoleByteCount: controller.droppedConsoleByteCount, statisticsFault: fault)
    }

    /// Writes the report as JSON, atomically; returns the error, if any.
    private func write(_ report: ExitReport, to path: String) -> String? {
        do {
            let bytes = try JSONText.encode(report, pretty: true) + [UInt8(ascii: "\n")]
            try FileThread.perform { () throws(VMMError) in
                try SmallFile.write(path, bytes, isCancelled: { isLeaving.load(ordering: .acquiring) })
            }
            return nil
        } catch {
            return "--stats-file: \(error)"
        }
    }

    /// Throws an error for an unwritable path, before the guest runs.
    private static func checkWritable(_ path: String) throws(VMMError) {
        guard !path.fileName.isEmpty else { throw .user("--stats-file: '\(path)' is not a file name") }
        guard SmallFile.isReplaced(path) else { return }
        let folder = path.folderPath
        // SAFETY: the string lives for the call.
        guard unsafe access(folder, W_OK | X_OK) == 0 else { throw VMMError.last("--stats-file: write in \(folder)").asking(.user) }
    }

    /// The first signal presses the power button, or kills the VM if the guest has not enabled the button. A later signal kills the VM.
    ///
    /// A host shutdown or a closed terminal sends several signals at once, including SIGHUP: signals of different kinds within `coalescingTime`
    /// count as one. Ctrl-C twice counts as two.
    ///
    /// After the guest's end a signal ends the process, in case a reader of the reports takes nothing.
    private func handle(_ request: SignalWatcher.Request, _ number: Int32, _ count: Int, _ socket: ControlSocket?) {
        if hasEnded.load(ordering: .acquiring) {
            usleep(MachineSession.endGrace)
            // The thread that opens and removes files may wait for a reader of the report.
            isLeaving.store(true, ordering: .releasing)
            socket?.remove()
            _exit(MachineSession.interruptedStatus)
        }
        // Firecracker has no handler: the first signal ends the VM.
        if controller.style == .firecracker {
            if count == 1 { signalNumber.store(number, ordering: .relaxed) }
            return controller.kill()
        }
        let now = TickClock.monotonicNanoseconds()
        if count == 1 { firstSignal.store(now, ordering: .relaxed) }
        let isLater = now &- firstSignal.load(ordering: .relaxed) >= MachineSession.coalescingTime
        let isSecondInterrupt = interrupted.load(ordering: .relaxed) && request == .interrupt
        if request == .interrupt { interrupted.store(true, ordering: .relaxed) }
        if count == 1 {
            stopper.stop(within: MachineSession.grace)
        } else if request != .hangUp, isLater || isSecondInterrupt {
            controller.kill()
        }
    }
}
