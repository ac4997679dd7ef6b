// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMBase
@testable import VMMModel
@testable import VMMPresentation

/// A report comes from another process: no number in it may end the command that shows it. The fuzz targets `json` and `text` make such numbers.
@Suite struct HostileNumberTests {
    private let latency = LatencySummary(total: .max, minimum: 0, maximum: .max, buckets: [.init(upperBound: .max, count: .max)])

    @Test(arguments: [
        (0.4, 0), (0.5, 1), (-3, 0), (1.8446744073709552e19, UInt64.max), (1e300, .max), (.infinity, .max), (-.infinity, 0), (.nan, 0),
    ])
    func integersSaturate(_ number: Double, _ integer: UInt64) {
        #expect(UInt64(saturating: number) == integer)
    }

    @Test func countsOfEveryKindAreFormatted() {
        #expect(Format.percent(.max, of: 1).hasSuffix(".7"))
        #expect(Format.rate(.max, in: 1) == "1,000,000,000,000,000,000")
        #expect(TimeChart.short(1e30) == "1e+21G")
        #expect(TimeChart.moment(1e30).hasSuffix("e+30"))
    }

    @Test func quantilesAndMeansOfHugeCounts() {
        let most = LatencySummary(total: .max, minimum: 1, maximum: 9, buckets: [.init(upperBound: 7, count: .max)])
        #expect(most.quantile(1) == 7 || most.quantile(1) == 9)
        let one = LatencySummary(total: .max, minimum: 1, maximum: .max, buckets: [.init(upperBound: .max, count: 1)])
        #expect(LatencyChart(title: "t", latency: one).html.contains("mean "))
    }

    @Test func pagesAndTablesOfHugeNumbers() {
        let exits = [ExitReport.Exit(vcpu: 0, reason: "halt", device: "", address: .max, latency: latency)]
        let reports = [
            ExitReport(name: "vm", uptimeNanoseconds: 0, exits: [], vcpus: []),
            ExitReport(name: "vm", uptimeNanoseconds: .max, exits: exits, vcpus: []),
        ]
        #expect(reports[1].table().contains("halt"))
        #expect(ReportPage(reports, events: [], sections: [], facts: [])?.html.hasSuffix("</html>\n") == true)
    }
}
