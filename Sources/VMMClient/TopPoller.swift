// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

internal import Glibc
internal import VMMAPI

/// Polls all running VMs of this user. Not thread-safe.
package final class TopPoller {
    private struct Seen {
        let pid: Int32
        let report: ExitReport
        let cpuNanoseconds: UInt64?
        let moment: UInt64
    }

    private let folder: RuntimeFolder
    private let client = APIClient(timeout: 1)
    private var before: [String: Seen] = [:]
    /// VMs that did not answer, with the number of polls for which to skip them. So a VM that does not answer does not delay every poll.
    private var silent: [String: Int] = [:]

    /// Creates a poller. The first poll has no interval.
    package init() throws(VMMError) {
        folder = try RuntimeFolder()
    }

    /// Stops the client's thread.
    package func stop() {
        client.stop()
    }

    /// Polls all running VMs, sorted by name. Blocks for up to two seconds for each VM that does not answer.
    package func poll() -> [TopMachine] {
        let names = RunningMachines.names()
        before = before.filter { names.contains($0.key) }
        silent = silent.filter { names.contains($0.key) }
        return names.map { poll($0) }
    }

    private func poll(_ name: String) -> TopMachine {
        if let turns = silent[name], turns > 0 {
            silent[name] = turns - 1
            return unresponsive(name)
        }
        let socket = folder.socketPath(of: name)
        guard let body = try? client.perform(.get, "/summary", socket: socket),
            let summary = try? JSONText.decode(MachineSummary.self, from: body),
            let report = try? StatisticsClient(socket: socket, client: client).report()
        else {
            silent[name] = 5
            before[name] = nil
            return unresponsive(name)
        }
        silent[name] = nil
        let now = Seen(
            pid: summary.pid, report: report, cpuNanoseconds: TopPoller.cpuNanoseconds(of: summary.pid),
            moment: TickClock.monotonicNanoseconds())
        // A VM that was restarted under the same name is another VM.
        let then = before[name].flatMap { $0.pid == now.pid ? $0 : nil }
        before[name] = now
        return TopMachine(
            summary: summary, total: report, interval: then.map { report.since($0.report) },
            processorShare: then.flatMap { TopPoller.share($0, now) }, residentByteCount: TopPoller.residentByteCount(of: summary.pid))
    }

    private func unresponsive(_ name: String) -> TopMachine {
        TopMachine(
            summary: RunningMachines.unresponsive(name, at: folder.socketPath(of: name)), total: nil, interval: nil, processorShare: nil,
            residentByteCount: nil)
    }

    private static func share(_ then: Seen, _ now: Seen) -> Double? {
        guard let first = then.cpuNanoseconds, let second = now.cpuNanoseconds, second >= first, now.moment > then.moment else {
            return nil
        }
        return Double(second &- first) / Double(now.moment &- then.moment)
    }

    /// CPU time of a process: utime and stime of /proc/PID/stat, fields 14 and 15 (proc(5)). Fields are counted from the last `)`, since the name may
    /// contain anything.
    static func cpuNanoseconds(of pid: Int32) -> UInt64? {
        guard let bytes = try? SmallFile.read("/proc/\(pid)/stat", atMost: 4096) else { return nil }
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 13, let user = UInt64(fields[11]), let system = UInt64(fields[12]) else { return nil }
        let ticks = sysconf(Int32(_SC_CLK_TCK))
        return ticks > 0 ? (user &+ system) &* (1_000_000_000 / UInt64(ticks)) : nil
    }

    /// Resident memory of a process: the second field of /proc/PID/statm, in pages (proc(5)).
    static func residentByteCount(of pid: Int32) -> UInt64? {
        guard let bytes = try? SmallFile.read("/proc/\(pid)/statm", atMost: 4096) else { return nil }
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        guard fields.count > 1, let pages = UInt64(fields[1]) else { return nil }
        return pages &* UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0))
    }
}
