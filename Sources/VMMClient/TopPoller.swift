// SPDX-License-Identifier: Apache-2.0

package import VMMBase
package import VMMModel

internal import Glibc
internal import VMMAPI

/// Looks at all running VMs of this user, again and again. One thread at a time.
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
    /// VMs that did not answer, and how often they are passed over before they are asked again: nobody waits for them each time.
    private var silent: [String: Int] = [:]

    /// Nothing has been looked at yet: the first look has no interval.
    package init() throws(ControlError) {
        folder = try RuntimeFolder()
    }

    /// Ends the client's thread.
    package func stop() {
        client.stop()
    }

    /// All VMs that live, by name.
    package func look() -> [TopMachine] {
        let names = RunningMachines.names()
        before = before.filter { names.contains($0.key) }
        silent = silent.filter { names.contains($0.key) }
        return names.map(look)
    }

    private func look(at name: String) -> TopMachine {
        if let turns = silent[name], turns > 0 {
            silent[name] = turns - 1
            return TopPoller.unresponsive(name)
        }
        let socket = folder.socketPath(of: name)
        guard let body = try? client.perform(.get, "/summary", socket: socket),
            let summary = try? JSONText.decode(MachineSummary.self, from: body),
            let report = try? StatisticsClient(socket: socket, client: client).report()
        else {
            silent[name] = 5
            before[name] = nil
            return TopPoller.unresponsive(name)
        }
        silent[name] = nil
        let now = Seen(
            pid: summary.pid, report: report, cpuNanoseconds: TopPoller.cpuNanoseconds(of: summary.pid),
            moment: TickClock.monotonicNanoseconds())
        // A VM that was started anew under the same name is another one.
        let then = before[name].flatMap { $0.pid == now.pid ? $0 : nil }
        before[name] = now
        return TopMachine(
            summary: summary, total: report, interval: then.map { report.since($0.report) },
            processorShare: then.flatMap { TopPoller.share($0, now) }, residentByteCount: TopPoller.residentByteCount(of: summary.pid))
    }

    private static func unresponsive(_ name: String) -> TopMachine {
        TopMachine(
            summary: MachineSummary(unresponsive: name), total: nil, interval: nil, processorShare: nil, residentByteCount: nil)
    }

    private static func share(_ then: Seen, _ now: Seen) -> Double? {
        guard let first = then.cpuNanoseconds, let second = now.cpuNanoseconds, second >= first, now.moment > then.moment else {
            return nil
        }
        return Double(second &- first) / Double(now.moment &- then.moment)
    }

    /// utime and stime of a process (proc(5), /proc/PID/stat: fields 14 and 15, counted behind the name, which may hold anything).
    static func cpuNanoseconds(of pid: Int32) -> UInt64? {
        guard let bytes = try? SmallFile.read("/proc/\(pid)/stat", atMost: 4096) else { return nil }
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 13, let user = UInt64(fields[11]), let system = UInt64(fields[12]) else { return nil }
        let ticks = sysconf(Int32(_SC_CLK_TCK))
        return ticks > 0 ? (user &+ system) &* (1_000_000_000 / UInt64(ticks)) : nil
    }

    static func residentByteCount(of pid: Int32) -> UInt64? {
        guard let bytes = try? SmallFile.read("/proc/\(pid)/statm", atMost: 4096) else { return nil }
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        guard words.count > 1, let pages = UInt64(words[1]) else { return nil }
        return pages &* UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0))
    }
}
