// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import VMMAPI
internal import VMMBase
internal import VMMControl
internal import VMMModel
internal import VMMPresentation

/// One VM in this process, for the commands that have one: what it is put together from, and what is said of its end.
enum Session {
    static func run(_ resources: MachineResources, startsNow: Bool) throws(ControlError) -> MachineSession.End {
        SignalWatcher.blockSignals()
        let socket = try ControlSocket(path: resources.apiSocket, name: resources.name, folder: RuntimeFolder())
        defer { socket.remove() }
        let session = try MachineSession(
            resources, tell: { line in Words.error("symvmm: \(line)") },
            build: MachineHost.makeMachine)
        return try session.run(socket: socket, startsNow: startsNow)
    }

    /// Says how it ended; the exit status is what is thrown, 0 when nothing is.
    static func report(_ end: MachineSession.End, name: String, quiet: Bool) throws {
        if !quiet, end.hasRun { Words.error("\n" + end.report.table()) }
        if end.droppedConsoleByteCount > 0 { Words.error("symvmm: \(end.droppedConsoleByteCount) bytes of console output found no reader") }
        if let fault = end.statisticsFault { Words.error("symvmm: \(fault)") }
        switch end.outcome {
        case .crashed(let report):
            Words.error(report.text(of: name))
            throw ExitStatus.crash.code
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
