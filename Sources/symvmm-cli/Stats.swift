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
        commandName: "stats", abstract: "Show a VM's exits: how many, where from, how long they took.",
        discussion: """
            Examples:
              symvmm stats vm1                                the exits since the start (or the last reset) as tables
              symvmm stats vm1 --by device --watch 2          what happens now, every two seconds
              symvmm stats vm1 --follow | jq .exit_count      a JSON object a line, every second
              symvmm stats vm1 --reset                        count from now
            """)

    /// `ExitGrouping`, as words.
    enum Grouping: String, ExpressibleByArgument, CaseIterable {
        case place, vcpu, reason, device, address, task

        var grouping: ExitGrouping { ExitGrouping(rawValue: rawValue) ?? .place }
    }

    @OptionGroup var target: Target
    @Option(
        help: ArgumentHelp(
            "place: by reason, device and address; vcpu: the same for each vCPU; reason, device, address: by that alone; task: by the guest's process.",
            valueName: "grouping"))
    var by = Grouping.place
    @Option(help: ArgumentHelp("Show what happened in the last so many seconds, again and again.", valueName: "seconds"))
    var watch: Double?
    @Flag(help: "Print the whole report as JSON, an object a line, each second or as --watch says.")
    var follow = false
    @Option(help: ArgumentHelp("End after so many reports of --watch or --follow.", valueName: "number"))
    var count: UInt64?
    @Flag(help: "Print JSON.")
    var json = false
    @Flag(help: "Let the counts begin anew. Monitoring (OpenMetrics, metrics lines) is not affected.")
    var reset = false
    @Option(help: ArgumentHelp("Of this vCPU only.", valueName: "number"))
    var vcpu: Int?
    @Option(
        help: ArgumentHelp("Of this reason only, such as port_write.", valueName: "reason"),
        completion: .list(ExitReason.allCases.map(\.description)))
    var reason: String?
    @Option(help: ArgumentHelp("Of this device only, such as serial.", valueName: "device"))
    var device: String?

    func validate() throws {
        if let watch, !(watch >= 0.01 && watch <= 86_400) { throw ValidationError("--watch: give 0.01 to 86400 seconds") }
        if reset, follow || watch != nil { throw ValidationError("--reset goes neither with --watch nor with --follow") }
        if reset, vcpu != nil || reason != nil || device != nil { throw ValidationError("--reset is for all counts: give no filter") }
        if json, watch != nil, !follow { throw ValidationError("--watch is for people: for JSON give --follow") }
        if count != nil, watch == nil, !follow { throw ValidationError("--count goes with --watch or --follow") }
        if by == .task, device != nil { throw ValidationError("--by task goes not with --device: processes are not known by device") }
        if count == 0 { throw ValidationError("--count: give 1 or more") }
    }

    func run() throws {
        let client = APIClient()
        defer { client.stop() }
        let statistics = try StatisticsClient(
            socket: target.socket(), client: client, vcpu: vcpu, reason: reason, device: device)
        if reset {
            try statistics.reset()
            return try Done(name: target.name, result: "counts from now").say(json)
        }
        if follow { return try printLines(statistics) }
        if let watch { return try showIntervals(statistics, seconds: watch) }
        let report = try statistics.report()
        if json { try Words.json(report) } else { Words.output(report.table(by: by.grouping)) }
    }

    /// JSON lines until the VM ends.
    private func printLines(_ statistics: StatisticsClient) throws {
        var interval = Interval(seconds: watch ?? 1)
        var printed: UInt64 = 0
        while let report = try statistics.reportUntilTheEnd() {
            Words.output(String(decoding: try JSONText.encode(report), as: UTF8.self) + "\n")
            printed += 1
            if printed == count { return }
            interval.wait()
        }
    }

    /// Tables of intervals until the VM ends: one over the other on a terminal, one after the other elsewhere.
    private func showIntervals(_ statistics: StatisticsClient, seconds: Double) throws {
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
        Words.error("symvmm: \(target.name) has ended")
    }

    private func show(_ report: ExitReport, isFirst: Bool) {
        guard let size = TerminalSize(of: STDOUT_FILENO) else {
            return Words.output((isFirst ? "" : "\n") + report.intervalTable(by: by.grouping))
        }
        // The table of the vCPUs and what stands round it stay in sight.
        let rows = max(3, size.rows - report.vcpus.count - 8)
        let lines = size.clip(report.intervalTable(by: by.grouping, rowLimit: rows), lines: size.rows - 1)
        Words.output((isFirst ? "\u{1b}[2J" : "") + "\u{1b}[H" + lines.map { $0 + "\u{1b}[K\n" }.joined() + "\u{1b}[J")
    }
}
