// SPDX-License-Identifier: Apache-2.0

package import VMMAPI
package import VMMBase
package import VMMModel

internal import Glibc

/// This user's running VMs, found through their control sockets.
package enum RunningMachines {
    /// Names of the running VMs, sorted. Removes sockets of dead VMs. Does not throw, since shell completion uses it: empty if there is no
    /// runtime folder.
    package static func names() -> [String] {
        guard let folder = try? RuntimeFolder() else { return [] }
        return folder.names().filter { isAliveOrRemoved(folder.socketPath(of: $0)) }
    }

    /// What a user learns of a VM whose process a signal killed, so that it could not say anything itself.
    package static func killedError(_ name: String) -> VMMError {
        VMMError(
            .host, "\(name): a signal killed the VM's process",
            advice: "if the sandbox or a lack of memory was the reason, the kernel's log says so (docs/SANDBOX.md)")
    }

    /// The summaries of all running VMs, sorted by name, including VMs that do not answer within two seconds.
    ///
    /// - Parameter killed: gets the name of each VM whose process a signal has killed, once: then its socket is removed.
    package static func summaries(killed: (String) -> Void = { _ in }) throws(VMMError) -> [MachineSummary] {
        let folder = try RuntimeFolder()
        let client = APIClient(timeout: 2)
        defer { client.stop() }
        var summaries: [MachineSummary] = []
        for name in folder.names() {
            let path = folder.socketPath(of: name)
            if ControlSocket.isLeftBehind(path) { killed(name) }
            guard isAliveOrRemoved(path) else { continue }
            let silent = unresponsive(name, at: path)
            if silent.state != MachineSummary.stopped, let body = try? client.perform(.get, "/summary", socket: path),
                var summary = try? JSONText.decode(MachineSummary.self, from: body)
            {
                // The number in this PID namespace, if the VM's process is in another one.
                if silent.pid > 0 { summary.pid = silent.pid }
                summary.socket = ControlSocket.place(path)
                summaries.append(summary)
            } else if ControlSocket.isAlive(path) {
                summaries.append(silent)
            }
        }
        return summaries
    }

    /// Describes a VM that does not answer: its process is stopped, or busy. The process is known without its help.
    static func unresponsive(_ name: String, at path: String) -> MachineSummary {
        let place = ControlSocket.place(path)
        guard let process = ControlSocket.listener(at: path) else {
            return MachineSummary(unresponsive: name, pid: 0, isStopped: false, socket: place)
        }
        return MachineSummary(unresponsive: name, pid: process.pid, isStopped: process.isStopped, socket: place)
    }

    /// Pauses or resumes a VM. Waits until it has done so.
    package static func setState(_ state: VMStateResource.State, socket: String) throws(VMMError) {
        // A pause waits for the vCPUs.
        let client = APIClient(timeout: 30)
        defer { client.stop() }
        _ = try client.perform(.patch, "/vm", body: body(VMStateResource(state: state)), socket: socket)
    }

    /// Presses the power button; does not wait for the guest, and ignores errors.
    package static func pressPowerButton(_ socket: String, client: APIClient) {
        _ = try? client.request(.put, "/actions", body: body(ActionResource(action: .stop)), socket: socket)
    }

    /// Presses the power button and waits. Kills the VM if the guest has not enabled the button, does not power off in time, or the VM's process
    /// does not answer.
    ///
    /// - Returns: whether the guest powered off by itself.
    package static func stop(_ socket: String, client: APIClient, timeout: UInt32) throws(VMMError) -> Bool {
        let process = ControlSocket.listener(at: socket)
        if !isStopped(process) {
            let response = try? client.request(.put, "/actions", body: body(ActionResource(action: .stop)), socket: socket)
            let isPressed = (response?.status ?? 500) < 300
            if isPressed, waitForEnd(socket, process, milliseconds: UInt64(timeout) * 1000) {
                if ControlSocket.isLeftBehind(socket) { throw killedError(socket) }
                return true
            }
        }
        try kill(socket, client: client)
        return false
    }

    /// Kills the VM and waits until its process has released all resources: disks, taps, memory.
    ///
    /// Asks the VM first, which then writes its reports. If its process is stopped, or has not ended within the client's timeout, kills the process.
    package static func kill(_ socket: String, client: APIClient) throws(VMMError) {
        guard let process = ControlSocket.listener(at: socket) else { return try ask(toEnd: socket, client) }
        if !process.isStopped {
            let hasAgreed = (try? client.perform(.put, "/actions", body: body(ActionResource(action: .kill)), socket: socket)) != nil
            // Without an answer the VM may have ended just before.
            if process.waitForEnd(milliseconds: hasAgreed ? 10_000 : 0) { return }
        }
        try process.kill()
        guard process.waitForEnd(milliseconds: 10_000) else {
            throw .host("process \(process.pid) has not ended 10 seconds after SIGKILL: it waits for the host's kernel")
        }
        // A killed process removes nothing.
        ControlSocket.removeIfStale(socket)
    }

    private static func isStopped(_ process: borrowing RunningProcess?) -> Bool {
        switch process {
        case .some(let process): process.isStopped
        case .none: false
        }
    }

    /// Kills a VM whose process this one cannot see.
    private static func ask(toEnd socket: String, _ client: APIClient) throws(VMMError) {
        do throws(VMMError) {
            _ = try client.perform(.put, "/actions", body: body(ActionResource(action: .kill)), socket: socket)
        } catch {
            if ControlSocket.isAlive(socket) { throw error }
        }
        guard waitForEnd(socket, nil, milliseconds: 10_000) else { throw .host("\(socket): the VM has not ended within 10 seconds") }
    }

    /// Waits for at most `milliseconds` until no process listens at the socket, then at most ten seconds for the process to end. Returns false if a
    /// process still listens.
    private static func waitForEnd(_ socket: String, _ process: borrowing RunningProcess?, milliseconds: UInt64) -> Bool {
        var waited: UInt64 = 0
        while ControlSocket.isAlive(socket) {
            guard waited < milliseconds else { return false }
            usleep(50_000)
            waited += 50
        }
        process?.waitForEnd(milliseconds: 10_000)
        return true
    }

    private static func isAliveOrRemoved(_ path: String) -> Bool {
        if ControlSocket.isAlive(path) { return true }
        ControlSocket.removeIfStale(path)
        return false
    }

    private static func body(_ resource: some APIResource) -> [UInt8] {
        (try? JSONText.encode(resource)) ?? []
    }
}
