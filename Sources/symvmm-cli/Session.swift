// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SwapBypass
internal import SymVMM

/// One VM in this process, for the commands that have one: what it is put together from, and what is said of its end.
enum Session {
    static func run(_ resources: MachineResources, _ swap: SwapConfiguration?, startsNow: Bool) throws(ControlError) -> MachineSession.End {
        SignalWatcher.blockSignals()
        let socket = try ControlSocket(path: resources.apiSocket, name: resources.name, folder: RuntimeFolder())
        defer { socket.remove() }
        let services = try services(swap)
        let session = try MachineSession(
            resources, tell: { path in Words.error("symvmm: the console is \(path)") },
            build: { (launch, output) throws(ControlError) in
                do throws(MachineError) {
                    return try VirtualMachine(launch.machine, console: output, services: services)
                } catch {
                    throw ControlError(error)
                }
            })
        return try session.run(socket: socket, services: services, startsNow: startsNow)
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
