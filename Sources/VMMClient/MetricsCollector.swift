// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc
internal import VMMAPI

/// Fetches the metrics of all running VMs at the same time. Reads only: it removes no sockets of dead VMs. Not thread-safe.
package final class MetricsCollector {
    /// A VM that was found, and its answer.
    package struct Found: Sendable {
        /// The VM's name: that of its socket.
        package let name: String
        /// What it answered.
        package let answer: Answer
    }

    /// A VM's answer, which is unchecked: the VM's process may be hostile.
    package enum Answer: Sendable, Equatable {
        /// The body with status 200.
        case text([UInt8])
        /// The VM's process is stopped: not asked.
        case stopped
        /// No answer in time.
        case silent
        /// Another status, or no HTTP.
        case refused
        /// The body is too long.
        case tooLong
    }

    /// Most VMs. Further ones are not asked.
    package static let machineLimit = 1000
    /// Most bytes of all answers together. Each VM has an equal part of them, so that none takes that of another.
    private static let byteLimit = 128 << 20
    private static let byteLimitPerMachine = 4 << 20

    private let patterns: [String]
    private let client: APIClient

    /// Creates a collector.
    ///
    /// - Parameters:
    ///   - patterns: further sockets, as shell patterns (glob(7)); the file's name without `.sock` is the VM's name.
    ///   - timeout: seconds for the VMs to answer.
    package init(patterns: [String], timeout: Int64) {
        self.patterns = patterns
        client = APIClient(timeout: timeout)
    }

    /// Stops the client's thread.
    package func stop() {
        client.stop()
    }

    /// Asks all running VMs for a resource.
    ///
    /// - Returns: those that are running, sorted by name, several with the same name in the order in which they were found; and how many more there are
    ///   than are asked.
    package func collect(_ target: String, accept: String) throws(VMMError) -> (machines: [Found], surplus: Int) {
        // Dead VMs' sockets take no part of the bytes and of the number.
        let sockets = try sockets().filter { ControlSocket.isAlive($0.path) }
        let asked = sockets.prefix(MetricsCollector.machineLimit)
        let stopped = asked.map { MetricsCollector.isStopped($0.path) }
        let awake = zip(asked, stopped).filter { !$0.1 }.map(\.0)
        let longest = min(MetricsCollector.byteLimitPerMachine, MetricsCollector.byteLimit / max(awake.count, 1))
        var answers = client.get(target, accept: accept, sockets: awake.map(\.path), longest: longest)[...]
        var found: [Found] = []
        for (socket, isStopped) in zip(asked, stopped) {
            let answer = isStopped ? .stopped : answers.popFirst().flatMap { MetricsCollector.answer($0) }
            if let answer { found.append(Found(name: socket.name, answer: answer)) }
        }
        return (found, sockets.count - asked.count)
    }

    /// Nil if no process listens there: the VM has ended.
    private static func answer(_ result: Result<APIResponse, APIClient.Failure>) -> Answer? {
        switch result {
        case .success(let response): response.status == 200 ? .text(response.body) : .refused
        case .failure(.connection(ECONNREFUSED)), .failure(.connection(ENOENT)): nil
        case .failure(.tooLong): .tooLong
        case .failure(.protocolError): .refused
        case .failure(.timeout), .failure(.closed), .failure(.connection): .silent
        }
    }

    private static func isStopped(_ path: String) -> Bool {
        switch ControlSocket.listener(at: path) {
        case .some(let process): process.isStopped
        case .none: false
        }
    }

    /// The sockets of this user's VMs, and those of the patterns, sorted by name.
    private func sockets() throws(VMMError) -> [(name: String, path: String)] {
        let folder = try RuntimeFolder()
        let own = folder.names().map { (name: $0, path: folder.socketPath(of: $0)) }
        var paths = Set(own.map { ControlSocket.place($0.path) })
        let others = patterns.flatMap { MetricsCollector.files(matching: $0) }.filter { paths.insert($0).inserted }
            .map { path in (name: MetricsCollector.name(path), path: path) }
        return (own + others).filter { $0.path.utf8.count <= ControlSocket.longestPath }.enumerated()
            .sorted { ($0.element.name, $0.offset) < ($1.element.name, $1.offset) }.map(\.element)
    }

    private static func name(_ path: String) -> String {
        let file = path.fileName
        return file.hasSuffix(".sock") ? String(file.dropLast(5)) : file
    }

    /// The paths that match a pattern, in their order; empty without any.
    private static func files(matching pattern: String) -> [String] {
        var found = unsafe glob_t()
        // SAFETY: the call fills the variable, and globfree frees what it refers to. Each of the first gl_pathc pointers is a C string until then.
        defer { unsafe globfree(&found) }
        guard unsafe glob(pattern, 0, nil, &found) == 0, let paths = unsafe found.gl_pathv else { return [] }
        let count = min(Int(clamping: unsafe found.gl_pathc), 4 * machineLimit)
        return (0..<count).compactMap { index in unsafe paths[index].map { unsafe String(cString: $0) } }
    }
}
