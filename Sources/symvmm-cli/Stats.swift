// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMModel
internal import VMMPresentation

struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Show a VM's exits: counts, causes, latencies.",
        discussion: """
            Examples:
              symvmm stats vm1                                exits since the start (or the last reset) as tables
              symvmm stats vm1 --by device --watch 2          exits in each interval of two seconds
              symvmm stats vm1 --follow | jq .exit_count      one JSON object per line and second
              symvmm stats vm1 --reset                        reset the counters
              symvmm stats vm1 --json >before.json; sleep 60; symvmm stats vm1 --since before.json
                                                              exits since an earlier report
              symvmm stats --diff before.json after.json      what lies between two reports
            """)

    /// `ExitGrouping` as an option's values.
    enum Grouping: String, ExpressibleByArgument, CaseIterable {
        case place, vcpu, reason, device, address, task

        var grouping: ExitGrouping { ExitGrouping(rawValue: rawValue) ?? .place }
    }

    @Argument(
        help: "Name of a running VM, or the path of its control socket (with a slash).",
        completion: .custom { _, _, _ in RunningMachines.names() })
    var name: String?
    @Option(
        help: ArgumentHelp(
            "place: by reason, device and address; vcpu: the same for each vCPU; reason, device, address: by that alone; task: by guest process.",
            valueName: "grouping"))
    var by = Grouping.place
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Show the exits of each interval of this many seconds, repeatedly.", valueName: "seconds"))
    var watch: Double?
    @Flag(help: "Print the whole report as one JSON object per line, every second or every --watch seconds.")
    var follow = false
    @Option(parsing: .unconditional, help: ArgumentHelp("Stop after this many reports of --watch or --follow.", valueName: "number"))
    var count: UInt64?
    @Flag(help: "Print JSON.")
    var json = false
    @Flag(help: "Reset the counters. Does not affect monitoring (OpenMetrics, metrics lines).")
    var reset = false
    @Option(
        help: ArgumentHelp("Show the exits since an earlier report of this VM (a file from --json).", valueName: "file"),
        completion: .file())
    var since: String?
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Show the exits between two reports of a VM (files from --json), the earlier one first.", valueName: "file"),
        completion: .file())
    var diff: [String] = []
    @Option(parsing: .unconditional, help: ArgumentHelp("Only this vCPU.", valueName: "number"))
    var vcpu: Int?
    @Option(
        help: ArgumentHelp("Only this reason, such as pio_write.", valueName: "reason"),
        completion: .list(ExitReason.allCases.map(\.description)))
    var reason: String?
    @Option(help: ArgumentHelp("Only this device, such as serial.", valueName: "device"))
    var device: String?

    func validate() throws {
        if let watch, !(watch >= 0.01 && watch <= 86_400) { throw ValidationError("--watch: give 0.01 to 86400 seconds") }
        if reset, follow || watch != nil { throw ValidationError("--reset cannot be combined with --watch or --follow") }
        if reset, vcpu != nil || reason != nil || device != nil {
            throw ValidationError("--reset cannot be combined with a filter: it resets all counters")
        }
        if json, watch != nil, !follow { throw ValidationError("--json cannot be combined with --watch: use --follow") }
        if count != nil, watch == nil, !follow { throw ValidationError("--count requires --watch or --follow") }
        if by == .task, device != nil {
            throw ValidationError("--by task cannot be combined with --device: exits of processes are not counted by device")
        }
        if count == 0 { throw ValidationError("--count: give 1 or more") }
        guard diff.isEmpty else {
            if diff.count != 2 { throw ValidationError("--diff: give two files, the earlier one first") }
            if name != nil || since != nil || watch != nil || follow || reset {
                throw ValidationError("--diff cannot be combined with a VM, --since, --watch, --follow or --reset")
            }
            return
        }
        if name == nil { throw ValidationError("give the name of a VM (symvmm ps prints them), or --diff and two files") }
        if since != nil, watch != nil || follow || reset {
            throw ValidationError("--since cannot be combined with --watch, --follow or --reset")
        }
    }

    func run() throws {
        if diff.count == 2 {
            let filter = { (report: ExitReport) in report.filtered(vcpu: vcpu, reason: reason, device: device) }
            return try showDifference(
                filter(try Stats.report(diff[0], "--diff")), filter(try Stats.report(diff[1], "--diff")), earlier: diff[0], "--diff")
        }
        let client = APIClient()
        defer { client.stop() }
        let name = name ?? ""
        let statistics = StatisticsClient(
            socket: try Target.socket(of: name), client: client, vcpu: vcpu, reason: reason, device: device)
        if reset {
            try statistics.reset()
            return try Done(name: name, result: "counters reset").print(json)
        }
        if follow { return try printLines(statistics) }
        if let watch { return try showIntervals(statistics, name, seconds: watch) }
        if let since {
            let before = try Stats.report(since, "--since").filtered(vcpu: vcpu, reason: reason, device: device)
            return try showDifference(before, try statistics.report(), earlier: since, "--since")
        }
        let report = try statistics.report()
        if json { try Terminal.json(report) } else { Terminal.output(report.table(by: by.grouping)) }
    }

    /// Reads a report from a file.
    private static func report(_ path: String, _ option: String) throws(VMMError) -> ExitReport {
        let bytes: [UInt8]
        do throws(VMMError) {
            bytes = try SmallFile.read(path, atMost: 64 << 20)
        } catch {
            throw error.of(option, .user)
        }
        guard let report = try? JSONText.decode(ExitReport.self, from: bytes) else {
            throw .user("\(option): \(path) is not a report: make one with symvmm stats NAME --json")
        }
        return report
    }

    /// Prints what lies between two reports of the same run.
    private func showDifference(_ before: ExitReport, _ after: ExitReport, earlier path: String, _ option: String) throws {
        guard before.name == after.name, before.uptimeNanoseconds <= after.uptimeNanoseconds, before.exitCount <= after.exitCount,
            before.resetNanoseconds == after.resetNanoseconds
        else {
            throw VMMError.user(
                "\(option): \(path) is not an earlier report of the same run: it is of '\(before.name)' at \(Format.duration(before.uptimeNanoseconds)), "
                    + "the other one of '\(after.name)' at \(Format.duration(after.uptimeNanoseconds)), or the counters were reset between them"
            )
        }
        let difference = after.since(before)
        if json { try Terminal.json(difference) } else { Terminal.output(difference.intervalTable(by: by.grouping)) }
    }

    /// Prints JSON lines until the VM ends.
    private func printLines(_ statistics: StatisticsClient) throws {
        var interval = Interval(seconds: watch ?? 1)
        var printed: UInt64 = 0
        while let report = try statistics.reportUntilTheEnd() {
            Terminal.output(String(decoding: try JSONText.encode(report), as: UTF8.self) + "\n")
            printed += 1
            if printed == count { return }
            interval.wait()
        }
    }

    /// Prints interval tables until the VM ends. On a terminal each replaces the previous one.
    private func showIntervals(_ statistics: StatisticsClient, _ name: String, seconds: Double) throws {
        var before = try statistics.report()
        var interval = Interval(seconds: seconds)
        var printed: UInt64 = 0
        while true {
            interval.wait()
            guard let now = try statistics.reportUntilTheEnd() else { break }
            show(now.since(before), isFirst: printed == 0)
            before = now
            printed += 1
            if printed == count { return }
        }
        Terminal.error("symvmm: \(statistics.isKilled ? RunningMachines.killedError(name).description : "\(name) has ended")".printable)
    }

    private func show(_ report: ExitReport, isFirst: Bool) {
        guard let size = TerminalSize(of: STDOUT_FILENO) else {
            return Terminal.output((isFirst ? "" : "\n") + report.intervalTable(by: by.grouping))
        }
        // Leave room for the two tables of vCPUs and the titles.
        let rows = max(3, size.rows - 2 * report.vcpus.count - 10)
        let lines = size.clip(report.intervalTable(by: by.grouping, rowLimit: rows), lines: size.rows - 1)
        Terminal.output((isFirst ? "\u{1b}[2J" : "") + "\u{1b}[H" + lines.map { $0 + "\u{1b}[K\n" }.joined() + "\u{1b}[J")
    }
}
