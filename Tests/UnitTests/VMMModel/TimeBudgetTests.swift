// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMAPI
@testable import VMMModel
@testable import VMMPresentation

@Suite struct TimeBudgetTests {
    private func sum(_ budget: TimeBudget) -> UInt64 {
        TimeBudget.Part.allCases.reduce(0) { $0 &+ budget[$1] }
    }

    @Test func eachPartIsWhatItsSourceCounted() {
        // 1,000 of wall time: 100 paused, 60 in exits, 40 for requests; 500 on a processor, of which 100 the VMM and 20 polling; 50 runnable.
        let times = VCPUTimes(
            wallNanoseconds: 1000, pausedNanoseconds: 100, serviceNanoseconds: 40, runNanoseconds: 500, delayNanoseconds: 50,
            guestRunNanoseconds: 300, pollNanoseconds: 20, waitNanoseconds: 30)
        let budget = TimeBudget(times, exitNanoseconds: 60)
        #expect(
            budget.parts
                == [.paused: 100, .vmm: 100, .guest: 300, .kvm: 80, .stolen: 50, .waiting: 30, .halted: 340])
        #expect(sum(budget) == 1000)
        #expect(budget.estimated == [.guest, .kvm, .stolen, .waiting])
        #expect(TimeBudget.blocked(times, exitNanoseconds: 60) == 350)
    }

    @Test func withoutTheSchedulersCountsTheRestIsTheGuests() {
        let budget = TimeBudget(VCPUTimes(wallNanoseconds: 1000, pausedNanoseconds: 100), exitNanoseconds: 60)
        #expect(budget.parts == [.paused: 100, .vmm: 60, .guest: 840])
        #expect(budget.estimated == [])
        #expect(TimeBudget.blocked(VCPUTimes(wallNanoseconds: 1000), exitNanoseconds: 60) == nil)
    }

    @Test func theSumIsExactWhateverTheCountsAre() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            func number() -> UInt64 {
                [0, 1, .max, UInt64.random(in: 0...2000, using: &generator)].randomElement(using: &generator) ?? 0
            }
            let wall = number()
            let times = VCPUTimes(
                wallNanoseconds: wall, pausedNanoseconds: number(), serviceNanoseconds: number(),
                runNanoseconds: Bool.random() ? number() : nil, delayNanoseconds: Bool.random() ? number() : nil,
                guestRunNanoseconds: Bool.random() ? number() : nil,
                pollNanoseconds: number(), waitNanoseconds: number())
            let budget = TimeBudget(times, exitNanoseconds: number())
            #expect(sum(budget) == wall)
            #expect(budget.bar.count == (wall == 0 ? 0 : 10))
        }
    }

    @Test func anIntervalIsTheDifferenceOfWhatWasCounted() throws {
        func report(_ uptime: UInt64, _ times: VCPUTimes) -> ExitReport {
            ExitReport(
                name: "a", uptimeNanoseconds: uptime, exits: [],
                vcpus: [ExitReport.VCPU(vcpu: 0, exitCount: 0, guestNanoseconds: 0, vmmNanoseconds: 0, kernel: [:], times: times)])
        }
        let first = report(100, VCPUTimes(wallNanoseconds: 100, runNanoseconds: 90, delayNanoseconds: 5, guestRunNanoseconds: 80))
        let second = report(300, VCPUTimes(wallNanoseconds: 300, runNanoseconds: 110, delayNanoseconds: 15, guestRunNanoseconds: 90))
        let interval = try #require(second.since(first).vcpus[0].budget)
        #expect(interval.wallNanoseconds == 200)
        #expect(interval.parts == [.paused: 0, .vmm: 0, .guest: 10, .kvm: 10, .stolen: 10, .waiting: 0, .halted: 170])
        // A filter by reason changes the exits, not where the time went.
        #expect(second.filtered(reason: "halt").vcpus[0].budget == second.vcpus[0].budget)
    }

    @Test func aFilterLeavesTheBudgetOfAnInterval() throws {
        func report(_ uptime: UInt64, _ times: VCPUTimes, halt: UInt64, port: UInt64) -> ExitReport {
            func row(_ reason: String, _ nanoseconds: UInt64) -> ExitReport.Exit {
                let bucket = LatencySummary.Bucket(upperBound: nanoseconds, count: 1)
                let latency = LatencySummary(total: nanoseconds, minimum: nanoseconds, maximum: nanoseconds, buckets: [bucket])
                return ExitReport.Exit(vcpu: 0, reason: reason, device: "", address: nil, latency: latency)
            }
            let vcpu = ExitReport.VCPU(
                vcpu: 0, exitCount: 2, guestNanoseconds: 0, vmmNanoseconds: halt + port, kernel: [:], times: times)
            return ExitReport(name: "a", uptimeNanoseconds: uptime, exits: [row("halt", halt), row("pio_write", port)], vcpus: [vcpu])
        }
        let first = report(100, VCPUTimes(wallNanoseconds: 100, serviceNanoseconds: 5, runNanoseconds: 90), halt: 10, port: 20)
        let second = report(300, VCPUTimes(wallNanoseconds: 300, serviceNanoseconds: 10, runNanoseconds: 200), halt: 40, port: 60)
        let whole = try #require(second.since(first).vcpus[0].budget)
        #expect(whole[.vmm] == 75)
        for reason in ["halt", "pio_write", "none"] {
            #expect(second.filtered(reason: reason).since(first.filtered(reason: reason)).vcpus[0].budget == whole)
            #expect(second.since(first).filtered(reason: reason).vcpus[0].budget == whole)
        }
    }

    @Test func aWaitForAProcessorThatHasNotEndedIsStolen() {
        func times(_ wall: UInt64, delay: UInt64, pending: UInt64) -> VCPUTimes {
            VCPUTimes(
                wallNanoseconds: wall, runNanoseconds: 10, delayNanoseconds: delay, pendingNanoseconds: pending, guestRunNanoseconds: 10)
        }
        let (first, second, third) = (
            times(100, delay: 0, pending: 90), times(200, delay: 0, pending: 190), times(300, delay: 280, pending: 0)
        )
        for (earlier, later) in [(first, second), (second, third)] {
            let budget = TimeBudget(later.since(earlier), exitNanoseconds: 0)
            #expect(budget[.stolen] >= 90 && budget[.halted] <= 10, "\(budget.parts)")
        }
        // A wait that was taken for longer than it was: no interval becomes the whole.
        #expect(third.since(times(250, delay: 0, pending: 285)).delayNanoseconds == 0)
    }

    @Test func jsonKeepsTheBudgetAndEarlierReportsHaveNone() throws {
        let vcpu = ExitReport.VCPU(
            vcpu: 0, exitCount: 0, guestNanoseconds: 0, vmmNanoseconds: 7, kernel: [:],
            times: VCPUTimes(wallNanoseconds: 10, runNanoseconds: 8, guestRunNanoseconds: 1))
        let bytes = try JSONText.encode(vcpu)
        #expect(try JSONText.decode(ExitReport.VCPU.self, from: bytes) == vcpu)
        #expect(String(decoding: bytes, as: UTF8.self).contains(#""budget":{"#))
        let earlier = #"{"vcpu": 0, "exit_count": 0, "guest_ns": 1, "vmm_ns": 2, "kernel": {}}"#
        #expect(try JSONText.decode(ExitReport.VCPU.self, from: Array(earlier.utf8)).budget == nil)
    }

    @Test func theBarHasATenthForEachTenth() {
        let times = VCPUTimes(
            wallNanoseconds: 1000, pausedNanoseconds: 100, runNanoseconds: 500, delayNanoseconds: 0, guestRunNanoseconds: 310)
        #expect(TimeBudget(times, exitNanoseconds: 90).bar == "GGGKVhhhhp")
        #expect(TimeBudget(VCPUTimes(wallNanoseconds: 0), exitNanoseconds: 0).bar == "")
    }
}
