// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

internal import Glibc
internal import VMMAPI

/// A running VM with its exit rate: one line of `symvmm ps`.
package struct RatedMachine: Encodable, Sendable, Equatable {
    /// The VM's summary.
    package let summary: MachineSummary
    /// Current exits to user space per second; nil if unknown.
    package let exitsPerSecond: Double?

    private enum CodingKeys: String, CodingKey {
        case exitsPerSecond = "exits_per_second"
    }

    /// The summary's fields and the rate, in one object.
    package func encode(to encoder: any Encoder) throws {
        try summary.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(exitsPerSecond, forKey: .exitsPerSecond)
    }

    /// All VMs of this user, sorted by name. Blocks for `milliseconds` to measure the rates, unless no VM is running.
    ///
    /// - Parameter killed: as for `RunningMachines.summaries(killed:)`.
    package static func all(
        measuredOver milliseconds: UInt32 = 100, killed: (String) -> Void = { _ in }
    ) throws(VMMError) -> [RatedMachine] {
        let before = try RunningMachines.summaries(killed: killed)
        let running = before.filter { $0.state == MachineState.running.rawValue }
        guard !running.isEmpty else { return before.map { RatedMachine(summary: $0, exitsPerSecond: rate($0, nil)) } }
        usleep(milliseconds * 1000)
        let folder = try RuntimeFolder()
        let client = APIClient(timeout: 1)
        defer { client.stop() }
        return before.map { summary in
            guard summary.state == MachineState.running.rawValue,
                let body = try? client.perform(.get, "/summary", socket: folder.socketPath(of: summary.name)),
                var after = try? JSONText.decode(MachineSummary.self, from: body)
            else { return RatedMachine(summary: summary, exitsPerSecond: rate(summary, nil)) }
            (after.pid, after.socket) = (summary.pid, summary.socket)
            return RatedMachine(summary: after, exitsPerSecond: rate(summary, after))
        }
    }

    /// Exits per second between two summaries, rounded to one decimal. Without a second summary: 0 for a paused VM, else nil.
    static func rate(_ before: MachineSummary, _ after: MachineSummary?) -> Double? {
        guard let after else { return before.state == MachineState.paused.rawValue ? 0 : nil }
        guard after.pid == before.pid, after.uptimeNanoseconds > before.uptimeNanoseconds, after.exitCount >= before.exitCount else {
            return nil
        }
        let rate = Double(after.exitCount &- before.exitCount) * 1e9 / Double(after.uptimeNanoseconds &- before.uptimeNanoseconds)
        return (rate * 10).rounded() / 10
    }
}
