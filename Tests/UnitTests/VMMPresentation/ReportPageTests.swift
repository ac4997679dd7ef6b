// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMModel
@testable import VMMPresentation

@Suite struct ReportPageTests {
    @Test func theRowsOfAProcessAreOneWhateverItsName() {
        func task(_ vcpu: Int, _ tgid: UInt32?, _ name: String, _ reason: String, _ count: UInt64) -> ExitReport.Task {
            ExitReport.Task(
                vcpu: vcpu, tgid: tgid, startTime: tgid == 5 ? 9 : nil, name: name, reason: reason, count: count,
                totalNanoseconds: 10 * count)
        }
        let report = ExitReport(
            name: "vm", uptimeNanoseconds: 1, exits: [], vcpus: [],
            tasks: [
                task(0, 0, "swapper/0", "halt", 3), task(1, 0, "swapper/1", "halt", 4), task(0, 5, "sh", "pio_write", 1),
                task(1, 5, "sleep", "halt", 8), task(0, nil, "others", "halt", 1),
                ExitReport.Task(vcpu: 0, tgid: 5, startTime: 10, name: "later", reason: "halt", count: 2, totalNanoseconds: 20),
            ])
        #expect(report.processes.map(\.name) == ["sleep", "(idle)", "later", "others"])
        #expect(report.processes.map(\.count) == [9, 7, 2, 1])
        #expect(report.processes.map(\.reasons) == ["halt 8, pio_write 1", "halt 7", "halt 2", "halt 1"])
        #expect(report.processes.map(\.totalNanoseconds) == [90, 70, 20, 10])
    }

    @Test func wordsOfOthersAreEscaped() {
        #expect(HTMLText.escaped("a<b>&\"c'\n\u{1b}\u{202e}\u{e9}") == "a&lt;b&gt;&amp;&quot;c&#39;&#10;??\u{e9}")
        let table = HTMLText.table(id: "t", [("<x>", true)], [["<y>"], ["1", "surplus"]])
        #expect(table.contains("<th class=\"n\">&lt;x&gt;</th>"))
        #expect(table.contains("<td class=\"n\">&lt;y&gt;</td>"))
        #expect(table.contains("<td>surplus</td>"))
    }

    @Test(arguments: [(0.0, "0"), (1.25, "1.3"), (-0.26, "-0.3"), (12, "12"), (-3, "-3"), (.nan, "0"), (1e300, "1000000")])
    func coordinatesAreShort(value: Double, text: String) {
        #expect(HTMLText.coordinate(value) == text)
    }

    @Test func ticksAreRound() {
        #expect([0.25, 12, 3601, 123_456.5].map(TimeChart.moment) == ["0.25", "12", "3601", "123456.5"])
        #expect(TimeChart.ticks(0, 10, 4) == [0, 2, 4, 6, 8, 10])
        #expect(TimeChart.ticks(3.5, 4.1, 4).count >= 4)
        #expect(TimeChart.ticks(0, 37_000, 4) == [0, 5000, 10_000, 15_000, 20_000, 25_000, 30_000, 35_000])
        #expect(TimeChart.ticks(0, 0, 4).count <= 40)
    }

    @Test(arguments: [(0.0, "0"), (0.25, "0.25"), (12.34, "12.3"), (999, "999"), (1000, "1k"), (3400, "3.4k"), (5e9, "5G")])
    func axesAreReadable(value: Double, text: String) {
        #expect(TimeChart.short(value) == text)
    }

    @Test func aChartHasAPlaceForEachInterval() {
        let chart = TimeChart(
            id: "c", unit: "x", moments: [0, 1, 2],
            series: [.init(name: "<a>", values: [1, 2]), .init(name: "b", values: [.nan])],
            marks: [.init(seconds: 1, label: "<m>"), .init(seconds: 9, label: "outside")])
        let html = chart.html
        #expect(html.split(separator: "<polygon").count == 3)
        #expect(html.split(separator: "class=\"hit\"").count == 3)
        #expect(html.contains("&lt;m&gt;") && !html.contains("outside") && !html.contains("<a>") && !html.contains("nan"))
        #expect(TimeChart(id: "c", unit: "x", moments: [1], series: []).html.contains("nothing to draw"))
    }

    @Test func aHistogramKeepsAllAndMarksTheQuantiles() {
        let latency = LatencySummary(
            total: 1, minimum: 1, maximum: .max,
            buckets: [.init(upperBound: 0, count: 1), .init(upperBound: 1500, count: 5), .init(upperBound: .max, count: 2)])
        let html = LatencyChart(title: "<t>", latency: latency).html
        #expect(html.contains("8 exits") && html.contains("&lt;t&gt;") && html.contains("p99"))
        #expect(LatencyChart(title: "t", latency: .empty).html.isEmpty)
    }

    @Test func jsonIsFlattened() {
        let rows = ReportFacts.rows(ofJSON: Array(#"{"a": {"b": [1, true]}, "c": "x", "d": null, "e": 1.5}"#.utf8))
        #expect(rows.map { "\($0.name)=\($0.value)" } == ["a.b[0]=1", "a.b[1]=true", "c=x", "e=1.5"])
        #expect(ReportFacts.rows(ofJSON: Array("no".utf8)).isEmpty)
    }

    @Test func thereIsNoPageOfNothing() {
        #expect(ReportPage([], events: [], sections: [], facts: []) == nil)
    }
}
