// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMClient
@testable import VMMModel
@testable import VMMPresentation

@Suite struct TopTests {
    @Test func keysAreUnderstood() {
        #expect(TerminalKey.parse(Array("q".utf8)) == [.character("q")])
        #expect(TerminalKey.parse([0x1b]) == [.escape])
        let several: [TerminalKey] = [.up, .down, .character("x"), .enter, .interrupt, .suspend]
        #expect(TerminalKey.parse(Array("\u{1b}[A\u{1b}OBx\r\u{3}\u{1a}".utf8)) == several)
        #expect(TerminalKey.parse(Array("\u{1b}[1;5C\u{1b}[D".utf8)) == [.right, .left])
        #expect(TerminalKey.parse(Array("\u{1b}[15~".utf8)) == [.escape])
        #expect(TerminalKey.parse([0x1b, 0x5b]) == [.escape])
        #expect(TerminalKey.parse([0x00, 0xc3, 0xa4, 0x7f]).isEmpty)
    }

    private func machine(_ name: String, exits: UInt64, uptime: UInt64 = 5_000_000_000) -> TopMachine {
        let summary = MachineSummary(
            name: name, pid: 7, state: "Running", vcpuCount: 1, memoryMebibytes: 64, uptimeNanoseconds: uptime, exitCount: exits,
            symbiotic: true)
        let latency = LatencySummary(
            total: exits * 1000, minimum: 1000, maximum: 1000, buckets: exits == 0 ? [] : [.init(upperBound: 1000, count: exits)])
        let report = ExitReport(
            name: name, uptimeNanoseconds: uptime, resetNanoseconds: uptime - 1_000_000_000,
            exits: exits == 0 ? [] : [.init(vcpu: 0, reason: "pio_write", device: "serial", address: 0x3f8, latency: latency)],
            vcpus: [.init(vcpu: 0, exitCount: exits, guestNanoseconds: 0, vmmNanoseconds: exits * 1000, kernel: [:])])
        return TopMachine(summary: summary, total: report, interval: report, processorShare: 0.5, residentByteCount: 20 << 20)
    }

    private func names(_ lines: [String]) -> [Character] {
        lines.compactMap { line in line.drop { !$0.isLetter }.first.flatMap { "abc".contains($0) ? $0 : nil } }
    }

    @Test func theListIsSortedAndMarked() {
        var view = TopView(order: .exits)
        view.take([machine("a", exits: 10), machine("b", exits: 30), machine("c", exits: 20)])
        let size = TerminalSize(columns: 60, rows: 10)
        var lines = view.lines(size)
        #expect(lines.count == 10)
        #expect(lines[0] == "symvmm top: 3 VMs, 3 running, 60 exits/s, by exits")
        #expect(lines[3...5].map { $0.filter("abc".contains).first } == ["b", "c", "a"])
        #expect(lines[3].hasPrefix("\u{1b}[7mb") && lines[3].hasSuffix("\u{1b}[m"))
        #expect(view.take(.down) == .redraw)
        // The selection stays at its VM.
        #expect(view.take(.character("n")) == .redraw)
        lines = view.lines(size)
        #expect(lines[5].hasPrefix("\u{1b}[7mc"))
        for _ in 0..<5 { _ = view.take(.down) }
        #expect(view.take(.character("q")) == .quit)
        #expect(view.take(.interrupt) == .quit)
        #expect(view.take(.suspend) == .suspend)
        #expect(view.take(.character(" ")) == .poll)
    }

    /// At every size, no line is too long and there are not too many lines.
    @Test(arguments: [1, 2, 3, 5, 24], [1, 10, 79, 200])
    func theScreenIsNotOverfilled(rows: Int, columns: Int) {
        var view = TopView(order: .name)
        view.take((0..<30).map { machine("vm\($0)", exits: UInt64($0)) })
        for keys: [TerminalKey] in [[], [.enter], [.character("s")], [.escape, .character("h")], [.enter, .down]] {
            for key in keys { _ = view.take(key) }
            let lines = view.lines(TerminalSize(columns: columns, rows: rows))
            #expect(lines.count <= rows)
            for line in lines {
                #expect(line.replacing("\u{1b}[7m", with: "").replacing("\u{1b}[m", with: "").count <= columns)
            }
        }
    }

    @Test func theMarkedLineStaysInSight() {
        var view = TopView(order: .name)
        view.take((10..<40).map { machine("vm\($0)", exits: 1) })
        for _ in 0..<29 { _ = view.take(.down) }
        #expect(view.lines(TerminalSize(columns: 80, rows: 10)).contains { $0.hasPrefix("\u{1b}[7mvm39") })
    }

    @Test func oneMachineAloneIsShown() {
        var view = TopView(order: .name)
        view.take([machine("a", exits: 10)])
        _ = view.take(.enter)
        let size = TerminalSize(columns: 100, rows: 30)
        #expect(view.lines(size)[0] == "a: process 7, running, 1 vCPU, 64M, up 5.00s")
        #expect(view.lines(size).contains { $0.hasPrefix("REASON     DEVICE  ADDRESS  COUNT  PER S") })
        _ = view.take(.character("d"))
        #expect(view.lines(size).contains { $0.hasPrefix("DEVICE  COUNT  PER S") })
        view.take([])
        #expect(view.lines(size)[0] == "a has ended")
        #expect(view.take(.character("q")) == .redraw)
        #expect(view.lines(size)[0] == "symvmm top: 0 VMs, 0 running, 0.0 exits/s, by name")
    }

    @Test func ratesNeedTwoLooks() {
        let summary = machine("a", exits: 10).summary
        #expect(RatedMachine.rate(summary, nil) == nil)
        let later = machine("a", exits: 110, uptime: 5_500_000_000).summary
        #expect(RatedMachine.rate(summary, later) == 200)
        #expect(RatedMachine.rate(later, summary) == nil)
    }

    @Test func theProcessIsMeasured() {
        #expect(TopPoller.cpuNanoseconds(of: 1) != nil)
        #expect((TopPoller.residentByteCount(of: 1) ?? 0) > 0)
        #expect(TopPoller.cpuNanoseconds(of: -1) == nil)
    }
}
