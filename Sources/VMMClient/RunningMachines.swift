// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

internal import Glibc
internal import VMMAPI

/// The VMs of this user that run now, as the command sees them through their control sockets.
package enum RunningMachines {
    /// Names of the VMs that live; what died is removed. For completion, so no error.
    package static func names() -> [String] {
        guard let folder = try? RuntimeFolder() else { return [] }
        return folder.names().filter { isAliveOrRemoved(folder.socketPath(of: $0)) }
    }

    /// A line for each VM that lives, by name. A VM that does not answer in time is listed with what is known.
    package static func summaries() throws(ControlError) -> [MachineSummary] {
        let folder = try RuntimeFolder()
        let client = APIClient(timeout: 2)
        defer { client.stop() }
        var summaries: [MachineSummary] = []
        for name in folder.names() {
            let path = folder.socketPath(of: name)
            guard isAliveOrRemoved(path) else { continue }
            if let body = try? client.perform(.get, "/summary", socket: path),
                let summary = try? JSONText.decode(MachineSummary.self, from: body)
            {
                summaries.append(summary)
            } else if ControlSocket.isAlive(path) {
                summaries.append(MachineSummary(unresponsive: name))
            }
        }
        return summaries
    }

    /// Pauses or resumes.
    package static func setState(_ state: String, socket: String) throws(ControlError) {
        // A pause waits for the vCPUs.
        let client = APIClient(timeout: 30)
        defer { client.stop() }
        _ = try client.perform(.patch, "/vm", body: body("state", state), socket: socket)
    }

    /// Asks the guest to power off and waits; ends the VM when it cannot be asked or has not obeyed in time.
    ///
    /// - Returns: whether the guest powered off by itself.
    package static func stop(_ socket: String, client: APIClient, timeout: UInt32) throws(ControlError) -> Bool {
        let process = ControlSocket.listener(at: socket)
        let response = try client.request(.put, "/actions", body: body("action_type", "Stop"), socket: socket)
        if response.status < 300, waitForEnd(socket, process, milliseconds: UInt64(timeout) * 1000) { return true }
        try kill(socket, client: client)
        return false
    }

    /// Ends the VM and waits until its process is gone, and with it what it had: disks, taps, memory.
    package static func kill(_ socket: String, client: APIClient) throws(ControlError) {
        let process = ControlSocket.listener(at: socket)
        do throws(ControlError) {
            _ = try client.perform(.put, "/actions", body: body("action_type", "Kill"), socket: socket)
        } catch {
            // It may have ended a moment before.
            if ControlSocket.isAlive(socket) { throw error }
        }
        guard waitForEnd(socket, process, milliseconds: 10_000) else { throw .host("\(socket): the VM has not ended within 10 seconds") }
    }

    /// False when the VM lives on. One whose socket is gone is ending: its process is waited for, within reason.
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

    private static func body(_ field: String, _ word: String) -> [UInt8] {
        (try? JSONText.encode([field: word])) ?? []
    }
}
