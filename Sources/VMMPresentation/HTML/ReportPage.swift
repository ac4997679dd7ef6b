// SPDX-License-Identifier: Apache-2.0

package import VMMModel

internal import VMMBase

/// A VM's statistics over time as one self-contained HTML page.
package struct ReportPage: Sendable {
    private let name: String
    private let timeline: ReportTimeline
    private let sections: [ReportSection]
    private let facts: [(title: String, rows: [(name: String, value: String)])]
    private var samples: [ExitReport] { timeline.samples }
    private var whole: ExitReport { timeline.whole }

    /// Creates a page of samples of one VM, in order, without a reset between them. Returns nil without samples.
    ///
    /// - Parameters:
    ///   - samples: the reports, each since the start or the same reset.
    ///   - events: events to mark in the charts.
    ///   - sections: the services' sections.
    ///   - facts: tables of names and values: configuration, host.
    package init?(
        _ samples: [ExitReport], events: [ReportTimeline.Event], sections: [ReportSection],
        facts: [(title: String, rows: [(name: String, value: String)])]
    ) {
        guard let timeline = ReportTimeline(samples, events: events) else { return nil }
        name = timeline.whole.name
        self.timeline = timeline
        self.sections = sections
        self.facts = facts
    }

    /// The page as HTML. It loads nothing from elsewhere.
    package var html: String {
        let title = HTMLText.escaped("\(name): exits")
        return """
            <!DOCTYPE html>
            <html lang="en"><head><meta charset="utf-8"><title>\(title)</title>
            <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
            <meta name="viewport" content="width=device-width"><meta name="generator" content="symvmm \(SymVMMVersion.current)">
            <style>
            \(HTMLText.style)
            </style></head><body>
            <h1>\(title)</h1>
            <p>\(HTMLText.escaped(subtitle))</p>
            \(figures)
            \(timeLines)\(serviceSections)\(latencies)\(tasks)\(processors)\(tables)\(factTables)
            <div id="tip"></div>
            <script>
            \(HTMLText.script)
            </script></body></html>

            """
    }

    private var subtitle: String {
        let seconds = Format.duration(whole.countedNanoseconds)
        guard samples.count > 1 else { return "One sample at an uptime of \(seconds): counts since the start, no charts over time." }
        return "\(samples.count) samples over \(seconds), up to an uptime of \(Format.duration(whole.uptimeNanoseconds))."
    }

    private var figures: String {
        let guest = whole.vcpus.reduce(0) { $0 &+ $1.guestNanoseconds }
        let vmm = whole.vcpus.reduce(0) { $0 &+ $1.vmmNanoseconds }
        let latency = whole.exits.reduce(LatencySummary.empty) { $0.merged(with: $1.latency) }
        let figures: [(name: String, value: String)] = [
            ("exits to user space", Format.count(whole.exitCount)),
            ("exits per second", Format.rate(whole.exitCount, in: whole.countedNanoseconds)),
            ("median exit time", Format.duration(latency.quantile(0.5))),
            ("99th percentile", Format.duration(latency.quantile(0.99))),
            ("of vCPU time in the VMM", Format.percent(vmm, of: guest &+ vmm) + " %"), ("vCPUs", "\(whole.vcpus.count)"),
        ]
        let boxes = figures.map { "<div><b>\(HTMLText.escaped($1))</b><span>\(HTMLText.escaped($0))</span></div>" }
        return "<div class=\"figures\">\(boxes.joined())</div>"
    }

    // MARK: Over time

    private var timeLines: String {
        guard samples.count > 1 else { return "" }
        var reasons = whole.groups(by: .reason).sorted { $0.latency.count > $1.latency.count }.compactMap(\.labels.first)
        let hasRest = reasons.count > 8
        if hasRest { reasons = Array(reasons.prefix(7)) }
        var series = reasons.map { reason in
            timeline.rates(reason) { report in report.exits.reduce(0) { $0 &+ ($1.reason == reason ? $1.count : 0) } }
        }
        if hasRest {
            series.append(
                timeline.rates("others") { report in report.exits.reduce(0) { $0 &+ (reasons.contains($1.reason) ? 0 : $1.count) } })
        }
        let exits = TimeChart(id: "exits-chart", unit: "exits per second", moments: timeline.moments, series: series, marks: timeline.marks)
        let time = TimeChart(
            id: "vmm-chart", unit: "% of one CPU", moments: timeline.moments,
            series: whole.vcpus.prefix(8).map { processor in
                let share = timeline.rates("vCPU \(processor.vcpu)") { report in
                    report.vcpus.first { $0.vcpu == processor.vcpu }?.vmmNanoseconds ?? 0
                }
                return TimeChart.Series(name: share.name, values: share.values.map { $0 / 1e7 })
            })
        return budgetLines
            + HTMLText.section(
                id: "exits", "Exits by reason", "Each step is the mean of one interval. Click a reason in the legend to hide it.",
                exits.html)
            + HTMLText.section(id: "vmm", "Time handling exits", "Time in user space, by vCPU.", time.html)
    }

    /// The time budget of all vCPUs over time; empty without one.
    private var budgetLines: String {
        guard whole.budget != nil else { return "" }
        let chart = TimeChart(
            id: "budget-chart", unit: "% of one CPU", moments: timeline.moments,
            series: TimeBudget.Part.allCases.map { part in
                let share = timeline.rates(part.rawValue) { $0.budget?[part] ?? 0 }
                return TimeChart.Series(name: share.name, values: share.values.map { $0 / 1e7 })
            }, marks: timeline.marks)
        return HTMLText.section(
            id: "budget", "Where the time went", "The time of all vCPUs. guest, kvm, stolen and waiting are estimated.", chart.html)
    }

    private var serviceSections: String {
        sections.compactMap { $0.html(timeline) }.joined()
    }

    // MARK: The whole

    private var latencies: String {
        let groups = whole.aggregated().exits.prefix(9).map { row in
            let place = [row.reason, row.device, row.address.map { "0x" + String($0, radix: 16) } ?? ""].filter { !$0.isEmpty }
            return LatencyChart(title: place.joined(separator: " "), latency: row.latency).html
        }
        guard !groups.isEmpty else { return "" }
        return HTMLText.section(
            id: "latency", "Exit latency",
            "From KVM_RUN's return to the next KVM_RUN, on a logarithmic scale. The places with the most total time.",
            "<div class=\"small\">\(groups.joined())</div>")
    }

    private var tasks: String {
        let processes = whole.processes
        guard !processes.isEmpty else {
            let label =
                whole.symbiotic == nil
                ? "Unknown: the VM was started with --symbiotic off." : "Unknown: the guest has not loaded symbiotic.ko."
            return HTMLText.section(id: "tasks", "Exits by guest process", label, "")
        }
        let rows = processes.prefix(100).map { process in
            [
                process.tgid.map { "\($0)" } ?? "", process.name, Format.count(process.count),
                Format.duration(process.totalNanoseconds), process.reasons,
            ]
        }
        return HTMLText.section(
            id: "tasks", "Exits by guest process", "The guest process that was running at the exit. Names are reported by the guest.",
            HTMLText.table(
                id: "tasks-table", [("process", true), ("name", false), ("exits", true), ("VMM time", true), ("reasons", false)], rows))
    }

    private var processors: String {
        let most = max(whole.vcpus.map { $0.guestNanoseconds &+ $0.vmmNanoseconds }.max() ?? 1, whole.countedNanoseconds, 1)
        var svg = "<svg id=\"time-chart\" viewBox=\"0 0 1000 \(whole.vcpus.count * 26 + 4)\" role=\"img\">\n"
        for (index, processor) in whole.vcpus.enumerated() {
            func width(_ time: UInt64) -> Double { Double(time) / Double(most) * 900 }
            let guest = width(processor.guestNanoseconds)
            let label = "guest \(Format.duration(processor.guestNanoseconds))\nVMM \(Format.duration(processor.vmmNanoseconds))"
            let place = "y=\"\(index * 26 + 4)\" height=\"18\" data-tip=\"\(HTMLText.escaped("vCPU \(processor.vcpu)\n" + label))\""
            svg += "<text x=\"0\" y=\"\(index * 26 + 17)\">vCPU \(processor.vcpu)</text>"
            svg += "<rect x=\"60\" width=\"\(HTMLText.coordinate(guest))\" \(place) fill=\"var(--s2)\"/>"
            svg +=
                "<rect x=\"\(HTMLText.coordinate(60 + guest))\" "
                + "width=\"\(HTMLText.coordinate(width(processor.vmmNanoseconds)))\" \(place) fill=\"var(--s1)\"/>\n"
        }
        svg += "</svg>\n<div class=\"legend\"><span><i style=\"background:var(--s2)\"></i>guest</span>"
        svg += "<span><i style=\"background:var(--s1)\"></i>VMM</span></div>\n"
        let rows = whole.vcpus.map { processor in
            [
                "\(processor.vcpu)", Format.count(processor.exitCount), Format.duration(processor.guestNanoseconds),
                Format.duration(processor.vmmNanoseconds),
                Format.percent(processor.vmmNanoseconds, of: processor.guestNanoseconds &+ processor.vmmNanoseconds),
                processor.kernel["exits"].map(Format.count) ?? "-", processor.inKernelExits.map(Format.count) ?? "-",
            ]
        }
        let columns: [(title: String, isNumber: Bool)] = [
            ("vCPU", true), ("exits", true), ("guest time", true), ("VMM time", true), ("VMM %", true), ("KVM exits", true),
            ("in kernel", true),
        ]
        return HTMLText.section(
            id: "time", "Guest time and VMM time",
            "Guest: time inside KVM_RUN including halts, counted when it returns. In kernel: exits that KVM handled in the kernel.",
            svg + HTMLText.table(id: "time-table", columns, rows))
    }

    private var tables: String {
        let places = whole.aggregated().exits.prefix(200).map { row in
            [
                row.reason, row.device, row.address.map { "0x" + String($0, radix: 16) } ?? "", Format.count(row.count),
                Format.duration(row.totalNanoseconds), Format.duration(row.meanNanoseconds), Format.duration(row.medianNanoseconds),
                Format.duration(row.p99Nanoseconds), Format.duration(row.maximumNanoseconds),
            ]
        }
        var text = HTMLText.section(
            id: "places", "All places", "By reason, device and address. Click a heading to sort.",
            HTMLText.table(
                id: "places-table",
                [
                    ("reason", false), ("device", false), ("address", false), ("count", true), ("total", true), ("mean", true),
                    ("p50", true), ("p99", true), ("max", true),
                ], places))
        if let symcalls = whole.symbiotic?.symcalls, !symcalls.isEmpty {
            let rows = symcalls.map { call in
                [
                    SymCallName.of(call.number), Format.count(call.count), Format.duration(call.medianNanoseconds),
                    Format.duration(call.p99Nanoseconds), Format.duration(call.maximumNanoseconds),
                ]
            }
            text += HTMLText.section(
                id: "symcalls", "Symcalls", "From the injection to the restored state.",
                HTMLText.table(
                    id: "symcalls-table", [("call", false), ("count", true), ("p50", true), ("p99", true), ("max", true)], rows))
        }
        var kernel: [String: UInt64] = [:]
        for processor in whole.vcpus { kernel.merge(processor.kernel, uniquingKeysWith: &+) }
        let counters = kernel.filter { $0.value > 0 }.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }
        guard !counters.isEmpty else { return text }
        return text
            + HTMLText.section(
                id: "kvm", "KVM's own counters", "Sums over all vCPUs, by the kernel's names.",
                HTMLText.table(
                    id: "kvm-table", [("counter", false), ("value", true)], counters.map { [$0.key, Format.count($0.value)] }))
    }

    private var factTables: String {
        facts.enumerated().map { index, table in
            HTMLText.section(
                id: "facts\(index)", table.title, "",
                HTMLText.table(id: "facts\(index)-table", [("", false), ("", false)], table.rows.map { [$0.name, $0.value] }))
        }.joined()
    }
}
