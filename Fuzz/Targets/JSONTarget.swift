// SPDX-License-Identifier: Apache-2.0

import VMMBase
import VMMModel

@testable import VMMAPI
@testable import VMMPresentation

extension FuzzTarget {
    static let json = FuzzTarget(
        name: "json", summary: "JSON texts as a client and a server read them, and what is made from a report",
        maximumLength: 8192, dictionary: "json.dict", seeds: { JSONFuzz.seeds }, prepare: { try JSONFuzz().run })
}

final class JSONFuzz {
    static var seeds: [[UInt8]] {
        let texts = [
            #"{"a":[1,-2.5e3,true,null,"\u00e9\n"],"b":{}}"#, #"[[[[]]]]"#, #"{"a":1,"a":2}"#, #""\ud83d\ude00""#, "1e400",
            #"{"fault_message":"x"}"#,
        ]
        let latency = LatencySummary(total: 3, minimum: 1, maximum: 2, buckets: [.init(upperBound: 2, count: 2)])
        let report = ExitReport(
            name: "vm", uptimeNanoseconds: 5, exits: [.init(vcpu: 0, reason: "halt", device: "", address: 1, latency: latency)], vcpus: [],
            tasks: [.init(vcpu: 0, tgid: 1, startTime: 2, name: "sh", reason: "halt", count: 1, totalNanoseconds: 1)],
            devices: [])
        return texts.map { Array($0.utf8) } + ((try? [JSONText.encode(report)]) ?? [])
    }
    private let worker: FuzzWorker

    init() throws {
        worker = try FuzzWorker()
    }

    func run(_ input: inout FuzzInput) throws {
        let bytes = input.rest()
        worker.run {
            JSONFuzz.checkValue(bytes)
            JSONFuzz.checkReport(bytes)
        }
    }

    private static func checkValue(_ bytes: [UInt8]) {
        do throws(VMMError) {
            let value = try JSONValue(parsing: bytes, from: "text")
            _ = RepeatedField.place(in: bytes, FieldPath(source: "text"))
            _ = value.place(FieldPath(source: "text")) { $0 == .null }
            _ = ReportFacts.rows(ofJSON: bytes)
            guard let text = try? JSONText.encode(value) else { return }
            let again = try JSONValue(parsing: text, from: "again")
            expect((try? JSONText.encode(again)) == text, "a value changes when it is written and read")
        } catch {
            Answers.check(error)
        }
    }

    /// A client shows what a VM's process answers, and does not trust it.
    private static func checkReport(_ bytes: [UInt8]) {
        guard let report = try? JSONText.decode(ExitReport.self, from: bytes) else { return }
        let whole = report.aggregated()
        for table in [report.table(), report.table(by: .reason), whole.intervalTable(), report.taskTable()] { Output.checkTable(table) }
        for exit in report.exits {
            for fraction in [0, 0.5, 0.99, 1] {
                expect(exit.latency.quantile(fraction) <= max(exit.latency.maximum, exit.latency.buckets.map(\.upperBound).max() ?? 0))
            }
        }
        _ = report.since(whole)
        _ = report.since(report)
        if let page = ReportPage([report, report], events: [], sections: [], facts: []) { Output.checkPage(page.html) }
    }
}
