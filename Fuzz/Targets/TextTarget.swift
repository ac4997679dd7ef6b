// SPDX-License-Identifier: Apache-2.0

import VMMBase
import VMMModel

@testable import SymVMM
@testable import VMMControl
@testable import VMMPresentation

extension FuzzTarget {
    static let text = FuzzTarget(
        name: "text", summary: "tables, OpenMetrics, HTML and the terminal with hostile names and numbers",
        seeds: { [Array("0<script>\u{1b}[2J\u{202e}\"\\\n{}".utf8), [UInt8](repeating: 0xff, count: 64), Array(0...255)] },
        prepare: { { input in TextFuzz.run(&input) } })
}

/// What all output has.
enum Output {
    /// A character that may control a terminal, other than the end of a line.
    static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar != "\n" && (scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value))
    }

    static func checkTable(_ text: String) {
        expect(!text.unicodeScalars.contains(where: isControl), "a control character in a table: \(text.debugDescription.prefix(2000))")
    }

    static func checkPage(_ html: String) {
        for word in ["<fz", "fz=\"", "fz='"] { expect(!html.contains(word), "a name is not escaped: \(word)") }
        expect(!html.unicodeScalars.contains { isControl($0) && $0 != "\t" }, "a control character in the page")
        expect(html.hasSuffix("</script></body></html>\n"), "the page has no end")
        for word in ["\"nan", "\"inf", "\"-inf"] { expect(!html.contains(word), "\(word) in the page") }
    }

    /// OpenMetrics 1.0, as far as a line goes.
    static func checkMetrics(_ text: String) {
        expect(text.hasSuffix("# EOF\n"), "no # EOF at the end")
        // By scalars: CR LF is one Character.
        for line in text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            let line = Array(line)
            if line.starts(with: ["#", " "]) { continue }
            expect(isSample(line), "no sample: \(String(String.UnicodeScalarView(line)).debugDescription)")
        }
    }

    private static func isSample(_ line: [Unicode.Scalar]) -> Bool {
        func isName(_ scalar: Unicode.Scalar) -> Bool {
            scalar.isASCII && (scalar.properties.isAlphabetic || scalar == "_" || ("0"..."9").contains(scalar))
        }
        var index = 0
        while index < line.count, isName(line[index]) { index += 1 }
        guard index > 0, index < line.count else { return false }
        if line[index] == "{" {
            index += 1
            while index < line.count, line[index] != "}" {
                let start = index
                while index < line.count, isName(line[index]) { index += 1 }
                guard index > start, index + 1 < line.count, line[index] == "=", line[index + 1] == "\"" else { return false }
                index += 2
                while index < line.count, line[index] != "\"" {
                    if line[index] == "\\" {
                        index += 1
                        guard index < line.count, ["\\", "\"", "n"].contains(line[index]) else { return false }
                    }
                    index += 1
                }
                index += 1
                if index < line.count, line[index] == "," { index += 1 }
            }
            index += 1
        }
        guard index < line.count, line[index] == " " else { return false }
        return Double(String(String.UnicodeScalarView(line[(index + 1)...]))) != nil
    }
}

enum TextFuzz {
    static func run(_ input: inout FuzzInput) {
        let statistics = statistics(&input)
        let name = name(&input)
        let report = ExitReport(statistics, name: name)
        Output.checkMetrics(
            OpenMetricsExport(
                statistics, MachineConfiguration(name: name, kernelPath: name), .running,
                process: ProcessUse(cpuNanoseconds: input.edge(), residentByteCount: input.edge())
            )
            .render())
        for table in [report.table(), report.table(by: .reason), report.aggregated().intervalTable(), report.taskTable(rates: true)] {
            Output.checkTable(table)
        }
        let second = ExitReport(self.statistics(&input), name: name)
        let facts = [(title: name, rows: [(name: TextFuzz.name(&input), value: TextFuzz.name(&input))])]
        let events = [ReportTimeline.Event(uptimeNanoseconds: input.edge(), TextFuzz.name(&input))]
        if let page = ReportPage([report, second], events: events, sections: [], facts: facts) { Output.checkPage(page.html) }
        checkTerminal(&input)
    }

    /// A hostile name with a mark in front that must not appear as it is in HTML.
    private static func name(_ input: inout FuzzInput) -> String {
        "<fz \(input.text(atMost: 24))' fz=\"'"
    }

    private static func latency(_ input: inout FuzzInput) -> LatencySummary {
        let buckets = (0..<input.number(below: 4)).map { _ in (input.edge(), input.edge()) }.sorted { $0.0 < $1.0 }
        return LatencySummary(
            total: input.edge(), minimum: input.edge(), maximum: input.edge(), buckets: buckets.map { .init(upperBound: $0.0, count: $0.1) }
        )
    }

    private static func statistics(_ input: inout FuzzInput) -> ExitStatistics {
        let reasons = ExitReason.allCases
        func counters(_ input: inout FuzzInput) -> [ExitStatistics.CounterGroup] {
            (0..<input.number(below: 3)).map { _ in
                .init(
                    name: name(&input),
                    counters: [
                        ("reads", input.edge()), ("read_bytes", input.edge()), ("guest_hits", input.edge()), ("bytes", input.edge()),
                    ])
            }
        }
        return ExitStatistics(
            uptimeNanoseconds: input.edge(),
            rows: (0..<input.number(below: 4)).map { _ in
                .init(
                    vcpu: input.number(below: 32), reason: input.pick(reasons), device: name(&input),
                    address: input.flag() ? input.edge() : nil,
                    latency: latency(&input))
            },
            vcpus: (0..<input.number(below: 3)).map {
                .init(vcpu: $0, guestNanoseconds: input.edge(), vmmNanoseconds: input.edge(), kernel: KernelStatistics())
            },
            tasks: (0..<input.number(below: 4)).map { _ in
                .init(
                    vcpu: 0, tgid: input.flag() ? input.long() : nil, startTime: input.edge(), name: name(&input),
                    reason: input.pick(reasons),
                    count: input.edge(), totalNanoseconds: input.edge())
            },
            symbiotic: input.flag()
                ? SymbioticStatistics(
                    isActive: input.flag(), unavailableReason: name(&input), counters: [("completed", input.edge())],
                    symcalls: [.init(vcpu: 0, number: input.long(), latency: latency(&input))]) : nil,
            services: counters(&input), devices: counters(&input))
    }

    private static func checkTerminal(_ input: inout FuzzInput) {
        let bytes = input.chunk(atMost: 64)
        _ = TerminalKey.parse(bytes)
        var filter = EscapeFilter()
        var passed = 0
        for byte in bytes { if case .pass = filter.take(byte) { passed += 1 } }
        expect(passed <= bytes.count)
        let size = TerminalSize(columns: Int(input.byte()), rows: Int(input.byte()))
        for line in size.clip(input.text(atMost: 200)) {
            expect(line.count <= max(size.columns, 0), "a line of \(line.count) characters in \(size.columns) columns")
        }
        for value in [input.edge(), input.edge()] {
            _ = (Format.duration(value), Format.count(value), Format.percent(value, of: input.edge()), Format.rate(value, in: input.edge()))
        }
        let text = GuestText.lines(input.chunk(atMost: 64))
        expect(!text.unicodeScalars.contains { Output.isControl($0) && $0 != "\t" }, "a control character in the guest's log")
    }
}
