// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMAPI
@testable import VMMBase
@testable import VMMClient
@testable import VMMModel
@testable import VMMPresentation

@Suite struct StatisticsDifferenceTests {
    private func latency(_ values: [UInt64]) -> LatencySummary {
        values.map { LatencySummary(total: $0, minimum: $0, maximum: $0, buckets: [.init(upperBound: $0, count: 1)]) }
            .reduce(.empty) { $0.merged(with: $1) }
    }

    private func report(_ uptime: UInt64, _ rows: [(String, UInt64?, [UInt64])], reset: UInt64? = nil, name: String = "vm") -> ExitReport {
        let exits = rows.map { ExitReport.Exit(vcpu: 0, reason: $0.0, device: "d", address: $0.1, latency: latency($0.2)) }
        return ExitReport(
            name: name, uptimeNanoseconds: uptime, resetNanoseconds: reset, exits: exits,
            vcpus: [
                .init(
                    vcpu: 0, exitCount: exits.reduce(0) { $0 + $1.count }, guestNanoseconds: uptime / 2,
                    vmmNanoseconds: exits.reduce(0) { $0 + $1.totalNanoseconds }, kernel: ["exits": uptime / 10, "guest_mode": 1])
            ],
            tasks: [.init(vcpu: 0, tgid: 7, name: "x", reason: "halt", count: uptime / 100, totalNanoseconds: uptime)],
            services: [.init(name: "s", counters: ["store_bytes": 4096, "calls": uptime / 1000, "guest_word": 5000 - uptime])])
    }

    @Test func aDifferenceHasWhatCameAfterwards() {
        let before = report(1000, [("pio_write", 1, [100, 200]), ("halt", nil, [7])])
        let after = report(3000, [("pio_write", 1, [100, 200, 200, 400]), ("halt", nil, [7]), ("mmio_read", 9, [50])])
        let difference = after.since(before)
        #expect(difference.countedNanoseconds == 2000)
        #expect(difference.exits.map(\.reason) == ["pio_write", "mmio_read"])
        #expect(difference.exits[0].latency.buckets == [.init(upperBound: 200, count: 1), .init(upperBound: 400, count: 1)])
        #expect(difference.exits[0].totalNanoseconds == 600)
        #expect(difference.exits[0].maximumNanoseconds == 400)
        // The minimum has not changed, so only its bucket is known: at least 200 less a sixteenth.
        #expect(difference.exits[0].minimumNanoseconds == 188)
        #expect(difference.exitCount == 3)
        #expect(difference.vcpus[0].exitCount == 3)
        #expect(difference.vcpus[0].vmmNanoseconds == 650)
        #expect(difference.vcpus[0].kernel == ["exits": 200, "guest_mode": 1])
        #expect(difference.tasks.map(\.count) == [20])
        #expect(difference.services?[0].counters == ["store_bytes": 4096, "calls": 2, "guest_word": 2000])
    }

    @Test func aDifferenceToNothingNewIsEmpty() {
        let one = report(1000, [("pio_write", 1, [100, 200])])
        let none = one.since(one)
        #expect(none.exitCount == 0 && none.exits.isEmpty && none.countedNanoseconds == 0 && none.tasks.isEmpty)
        #expect(!none.table().isEmpty)
    }

    @Test func anotherRunOrAnotherResetIsNotSubtracted() {
        let before = report(3000, [("pio_write", 1, [100, 200])])
        let restarted = report(1000, [("pio_write", 1, [100])])
        #expect(restarted.since(before) == restarted)
        let reset = report(4000, [("pio_write", 1, [100])], reset: 3500)
        #expect(reset.since(before) == reset)
        #expect(reset.countedNanoseconds == 500)
        let other = report(4000, [], name: "other")
        #expect(other.since(before) == other)
    }

    /// Differences add up to the whole, in any order of readings and resets.
    @Test func differencesAddUp() {
        var values: [UInt64] = []
        var sum = LatencySummary.empty
        var last = report(0, [])
        for step in 1...50 {
            values.append(UInt64(step * step % 97 + 1))
            let now = report(UInt64(step), [("halt", nil, values)])
            if let row = now.since(last).exits.first {
                #expect(row.minimumNanoseconds <= row.meanNanoseconds && row.meanNanoseconds <= row.maximumNanoseconds)
                sum.merge(row.latency)
            }
            last = now
        }
        #expect(sum.count == 50)
        #expect(sum.total == values.reduce(0, +))
        #expect(sum.buckets == last.exits[0].latency.buckets)
    }

    @Test func aFilterLeavesSumsTrue() {
        let whole = report(1000, [("pio_write", 1, [100, 200]), ("halt", nil, [7])])
        let part = whole.filtered(reason: "halt")
        #expect(part.exitCount == 1 && part.vcpus[0].exitCount == 1 && part.vcpus[0].vmmNanoseconds == 7)
        #expect(part.tasks.count == 1)
        #expect(whole.filtered(device: "d").exitCount == 3)
        #expect(whole.filtered(device: "d").tasks.isEmpty)
        #expect(whole.filtered(vcpu: 1).exitCount == 0)
        #expect(whole.filtered() == whole)
    }

    @Test(arguments: ExitGrouping.allCases)
    func everyGroupingHasTheWhole(grouping: ExitGrouping) {
        let whole = report(1000, [("pio_write", 1, [100, 200]), ("pio_write", 2, [300]), ("halt", nil, [7])])
        #expect(whole.groups(by: grouping).reduce(0) { $0 + $1.latency.count } == 4)
        let lines = whole.intervalTable(by: grouping, rowLimit: 1).split(separator: "\n")
        #expect(lines[0] == "vm: 4 exits to user space in 1.00us, 4,000,000 per second")
        if grouping == .reason {
            #expect(lines[1] == "REASON     COUNT      PER S  TIME%   MEAN    P50    P99    MAX")
            #expect(lines[2] == "pio_write      3  3,000,000   98.8  200ns  200ns  300ns  300ns")
            #expect(lines[3] == "(1 more)       1  1,000,000    1.2    7ns    7ns    7ns    7ns")
        }
    }

    @Test func aQueryIsEscaped() {
        #expect(StatisticsClient.escaped("virtio-blk.a_1") == "virtio-blk.a_1")
        #expect(StatisticsClient.escaped("a b&c=\u{e9}\u{1}") == "a%20b%26c%3D%C3%A9%01")
        let request = APIRequest(method: .get, target: "/x?device=" + StatisticsClient.escaped("a b&c=\u{e9}+%"))
        #expect(request.query == ["device": "a b&c=\u{e9}+%"])
    }

    @Test func theRateOfAClockStays() {
        let clock = TickClock()
        let first = clock.scale()(1_000_000_000)
        var sum = 0.0
        for number in 0..<1_000_000 { sum += Double(number).squareRoot() }
        #expect(sum > 0)
        #expect(clock.scale()(1_000_000_000) == first)
        // A time stamp counter from 100 MHz to 10 GHz.
        #expect((100_000_000...10_000_000_000).contains(first))
    }

    @Test func terminalsAreNotOverfilled() {
        let size = TerminalSize(columns: 4, rows: 2)
        #expect(size.clip("abcdef\ngh\nij\n") == ["abcd", "gh"])
        #expect(size.clip("a\n") == ["a"])
        #expect(TerminalSize(of: -1) == nil)
    }
}
