// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMBase
@testable import VMMControl
@testable import VMMModel
@testable import VMMPresentation

/// Names and reasons come from a guest or from another process: they control no terminal, and end no label.
@Suite struct HostileTextTests {
    private static let hostile = "a\u{1b}[2J\r\n\u{9b}b\"\u{301}\\"

    private func isClean(_ text: String) -> Bool {
        !text.unicodeScalars.contains { $0 != "\n" && ($0.value < 0x20 || (0x7f..<0xa0).contains($0.value)) }
    }

    @Test func everyLineOfATableIsPrintable() {
        let symbiotic = [true, false].map { active in
            ExitReport.Symbiotic(
                active: active, unavailableReason: HostileTextTests.hostile, counters: [HostileTextTests.hostile: 1], symcalls: [])
        }
        for symbiotic in symbiotic.map(Optional.some) + [nil] {
            let report = ExitReport(
                name: HostileTextTests.hostile, uptimeNanoseconds: 1, exits: [], vcpus: [], symbiotic: symbiotic,
                services: [.init(name: HostileTextTests.hostile, counters: [HostileTextTests.hostile: 1])])
            for text in [report.table(), report.table(by: .task), report.taskTable(), report.intervalTable()] {
                #expect(isClean(text), "\(text)")
            }
        }
        let crash = CrashReport(reason: HostileTextTests.hostile, vcpu: 0, registers: [])
        #expect(isClean(crash.text(of: HostileTextTests.hostile)))
    }

    @Test func linesKeepTheirEnds() {
        #expect("a\tb\nc\u{1b}d\u{9b}".printableLines == "a\tb\nc?d?")
        #expect("a\tb\n".printable == "a?b?")
    }

    /// A quote and a combining mark are one Character, which is not equal to a quote.
    @Test(arguments: [("\"\u{301}", "\\\"\u{301}"), ("\\\u{301}", "\\\\\u{301}"), ("a\r\nb", "a\r\\nb"), ("ab", "ab")])
    func labelsAreEscapedByScalars(_ value: String, _ escaped: String) {
        #expect(OpenMetricsText.escaped(value) == escaped)
        #expect(OpenMetricsText.escaped(value).unicodeScalars.count == escaped.unicodeScalars.count)
    }

    @Test(arguments: ["a/b", "a/\u{301}b", "a b", "a\u{301} \u{301}"]) func noNameOfATap(_ name: String) {
        #expect(throws: VMMError.self) { try NetworkInterfaceConfiguration.checkTap(name, option: "--net") }
    }
}
