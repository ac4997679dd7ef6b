// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMAPI
internal import VMMBase
internal import VMMControl
internal import VMMModel
internal import VMMPresentation
internal import VMMSandbox

#if SYMVMM_TEST_BUILD
    internal import TestServices
#endif

/// Runs the VM of this process.
enum Session {
    /// - Parameters:
    ///   - startsNow: true to start the guest; false if the API configures and starts it.
    ///   - announces: whether to print where the API is.
    static func run(_ resources: MachineResources, startsNow: Bool, announces: Bool) throws(VMMError) -> MachineSession.End {
        try run(
            resources,
            socket: { () throws(VMMError) -> ControlSocket? in
                let socket = try ControlSocket(path: resources.apiSocket, name: resources.name, folder: RuntimeFolder())
                if announces { Terminal.error("symvmm: the API is at \(socket.path)".printable) }
                return socket
            }, startsNow: startsNow)
    }

    /// The same with a control socket of another kind.
    ///
    /// - Parameters:
    ///   - socket: makes the control socket, after the signals are blocked; nil for no API.
    ///   - limits: limits for the API's clients.
    ///   - metadata: a file for the metadata service.
    ///   - startsNow: true to start the guest; false if the API configures and starts it.
    static func run(
        _ resources: MachineResources, socket make: () throws(VMMError) -> ControlSocket?, limits: APILimits = APILimits(),
        metadata: String? = nil, startsNow: Bool
    ) throws(VMMError) -> MachineSession.End {
        VMMBase.Thread.useOneArena()
        try ProcessHardening.apply()
        SignalWatcher.blockSignals()
        let socket = try make()
        defer { socket?.remove() }
        let sandbox = resources.sandbox.mode == .off ? nil : try Sandbox(resources.sandbox, builder: startsNow ? .main : .apiWork)
        let session = try MachineSession(
            resources, sandbox: sandbox, notify: { line in Terminal.error("symvmm: \(line.printable)") },
            build: builder)
        if let metadata { try session.loadMetadata(metadata) }
        return try session.run(socket: socket, limits: limits, startsNow: startsNow)
    }

    /// Builds the machine.
    private static var builder: VMController.Builder {
        #if SYMVMM_TEST_BUILD
            MovingMachine.make
        #else
            VMController.makeMachine
        #endif
    }

    /// Prints the result of the run. Throws the exit status if it is not 0.
    static func report(_ end: MachineSession.End, name: String, quiet: Bool) throws {
        if !quiet, end.hasRun { Terminal.error("\n" + end.report.table()) }
        if end.droppedConsoleByteCount > 0 {
            let count = end.droppedConsoleByteCount
            Terminal.error("symvmm: \(counted(count, "byte")) of console output \(count == 1 ? "was" : "were") dropped")
        }
        if let fault = end.statisticsFault { Terminal.error("symvmm: \(fault.description.printable)") }
        switch end.outcome {
        case .crashed(let report):
            Terminal.error(report.text(of: name))
            throw ExitStatus.crash.code
        case .reported(let value):
            // As QEMU's isa-debug-exit: never 0. The system keeps the low 8 bits.
            throw ExitCode(Int32(truncatingIfNeeded: value << 1 | 1))
        case .killed where !end.hasRun && !end.wasInterrupted:
            return
        case .killed:
            throw ExitStatus.interrupted.code
        case .powerOff, .reset:
            if end.wasInterrupted { throw ExitStatus.interrupted.code }
            if end.statisticsFault != nil { throw ExitStatus.host.code }
        }
    }
}
