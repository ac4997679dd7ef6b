// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMBase
@testable import VMMModel
@testable import VMMPresentation

@Suite struct ExporterTextTests {
    private static let latency = LatencySummary(
        total: 3_500, minimum: 1_500, maximum: 2_000, buckets: [.init(upperBound: 1_500, count: 1), .init(upperBound: 2_000, count: 1)])

    /// The text of a VM with samples in all families.
    private static func machine(_ name: String, device: String = "virtio-blk.root") -> String {
        let statistics = ExitStatistics(
            uptimeNanoseconds: 2_500_000_000,
            rows: [
                .init(vcpu: 0, reason: .pioWrite, device: "serial", address: 0x3f8, latency: latency),
                .init(vcpu: 0, reason: .halt, device: "", address: nil, latency: latency),
            ],
            vcpus: [],
            symbiotic: SymbioticStatistics(
                isActive: true, unavailableReason: nil, counters: [("completed", 3)],
                symcalls: [.init(vcpu: 0, number: 0, latency: latency)]),
            services: [.init(name: "s\"\\\n", counters: [("calls", 1), ("store_bytes", 2), ("guest_hits", 3)])],
            devices: [.init(name: device, counters: [("reads", 1), ("read_bytes", 3)])])
        return OpenMetricsExport(
            statistics, MachineConfiguration(name: name, kernelPath: "k"), .running,
            process: ProcessUse(cpuNanoseconds: 1, residentByteCount: 2)
        ).render()
    }

    private func text(_ names: [String], form: MetricsForm = .openMetrics) throws -> [String] {
        let machines = try names.map { name in
            ExporterText.Machine(name: name, metrics: try ScrapedMetrics(Array(ExporterTextTests.machine(name).utf8), vm: name))
        }
        return ExporterText(
            machines: machines + [.init(name: "gone", metrics: nil)], leftOut: [.stopped: 7], collectionCount: 9,
            collectionNanoseconds: 1_500_000
        ).render(form).split(separator: "\n").map(String.init)
    }

    @Test func theListHasTheFamiliesOfAVM() {
        let types = ExporterTextTests.machine("a").split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
        #expect(
            types.map { $0.split(separator: " ")[2...].joined(separator: " ") }
                == MetricsFamily.all.map { "\($0.name) \($0.kind.rawValue)" })
        #expect(Set(MetricsFamily.all).isDisjoint(with: MetricsFamily.exporter))
    }

    @Test func eachFamilyIsThereOnceWithTheSamplesOfAllVMs() throws {
        let lines = try text(["a", "b"])
        let families = MetricsFamily.exporter + MetricsFamily.all
        #expect(lines.filter { $0.hasPrefix("# TYPE ") } == families.map { "# TYPE \($0.name) \($0.kind.rawValue)" })
        #expect(lines.last == "# EOF")
        #expect(lines.count == Set(lines).count)
        // Every sample line of each VM, under the description of its family.
        for name in ["a", "b"] {
            for line in ExporterTextTests.machine(name).split(separator: "\n") where !line.hasPrefix("#") {
                let index = try #require(lines.firstIndex(of: String(line)), "\(line)")
                let description = try #require(lines[..<index].last { $0.hasPrefix("# TYPE ") })
                #expect(line.hasPrefix(description.split(separator: " ")[2]), "\(line)")
            }
        }
        for line in [
            "symvmm_exporter_build_info{version=\"\(SymVMMVersion.current)\"} 1", #"symvmm_exporter_vm_up{vm="a"} 1"#,
            #"symvmm_exporter_vm_up{vm="gone"} 0"#, #"symvmm_exporter_left_out_total{reason="stopped"} 7"#,
            #"symvmm_exporter_left_out_total{reason="too_long"} 0"#, "symvmm_exporter_unknown_families 0",
            "symvmm_exporter_collections_total 9",
            "symvmm_exporter_collection_seconds 0.0015", "# UNIT symvmm_exporter_collection_seconds seconds",
        ] {
            #expect(lines.contains(line), "\(line)")
        }
    }

    @Test func theOlderFormHasTheSameSamples() throws {
        let (lines, older) = (try text(["a", "b"]), try text(["a", "b"], form: .prometheus))
        #expect(older.filter { !$0.hasPrefix("#") } == lines.filter { !$0.hasPrefix("#") })
        #expect(!older.contains { $0.hasPrefix("# UNIT") || $0 == "# EOF" })
        for line in [
            "# TYPE symvmm_exits_total counter", "# HELP symvmm_exits_total Exits to user space.", "# TYPE symvmm_build_info gauge",
            "# TYPE symvmm_vm_state gauge", "# TYPE symvmm_service_guest_events untyped", "# TYPE symvmm_exit_duration_seconds histogram",
        ] {
            #expect(older.contains(line), "\(line)")
        }
    }

    @Test func theNameIsThatUnderWhichTheVMWasFound() throws {
        let metrics = try ScrapedMetrics(Array(ExporterTextTests.machine("liar").utf8), vm: "a")
        let lines = metrics.lines.values.flatMap { $0.split(separator: "\n") }
        #expect(!lines.isEmpty && lines.allSatisfy { $0.contains(#"{vm="a""#) && !$0.contains("liar") })
    }

    @Test func unknownFamiliesAreCountedAndLeftOut() throws {
        let new = "# TYPE symvmm_new gauge\n# HELP symvmm_new New.\nsymvmm_new{vm=\"a\"} -1e5 # {} 3\n# TYPE up gauge\nup 0\n"
        let metrics = try ScrapedMetrics(Array((new + ExporterTextTests.machine("a")).utf8), vm: "a")
        #expect(metrics.unknownFamilyCount == 2)
        #expect(metrics.lines.count == MetricsFamily.all.count)
        #expect(!metrics.lines.values.contains { $0.contains("symvmm_new") || $0.contains("up 0") })
    }

    private static let head = "# TYPE symvmm_exits counter\n"
    private static let buckets = "# TYPE symvmm_exit_duration_seconds histogram\n"

    /// A family of counters with one line.
    private static func counter(_ line: String) -> String { "\(head)symvmm_exits_total\(line)\n" }

    private static func bucket(_ bound: String, _ count: String, _ more: String = "") -> String {
        "symvmm_exit_duration_seconds_bucket{reason=\"halt\"\(more),le=\"\(bound)\"} \(count)\n"
    }

    private static let last = bucket("+Inf", "2")
    private static let end =
        "symvmm_exit_duration_seconds_count{reason=\"halt\"} 2\nsymvmm_exit_duration_seconds_sum{reason=\"halt\"} 0.5\n"

    private static let good: [String] = [
        head, buckets, counter("{} 1"), counter("{a=\"\"} 1.5"), counter("{a=\"\u{e9}\"} 18446744073709551615"),
        "\(buckets)\(bucket("1e-06", "1"))\(last)\(end)",
        "\(buckets)\(last)\(end)\(last.replacing("halt", with: "x"))\(end.replacing("halt", with: "x"))",
    ]

    @Test(arguments: ExporterTextTests.good) func goodTexts(text: String) throws {
        #expect(throws: Never.self) { try ScrapedMetrics(Array((text + "# EOF\n").utf8), vm: "a") }
    }

    /// Another type, a family twice, a sample without a family or of another one, words that are no sample.
    private static let badFamilies: [String] = [
        "# TYPE symvmm_exits gauge\n", "\(head)\(head)", "symvmm_exits_total{} 1\n", "\(head)symvmm_vcpus{} 1\n",
        "\(head)symvmm_exits{} 1\n", "\(head)symvmm_exits_created{} 1\n", "\(head)\n", counter(""), counter(" 1"),
        "# TYPE symvmm_exits counter x\n", "# TYPE symvmm_exits\n", "# TYPE symvmm_build info\nsymvmm_build_info{} 2\n",
        "# TYPE symvmm_vm_state stateset\nsymvmm_vm_state{symvmm_vm_state=\"x\"} 2\n",
        "# TYPE symvmm_vm_state stateset\nsymvmm_vm_state{} 1\n",
    ]

    private static let badNumbers: [String] = [
        "-1", "NaN", "+Inf", "1e9", "1 1", "1.", ".1", "", "1 # {a=\"b\"} 1", String(repeating: "1", count: 41), "1\r", " 1", "1 ",
    ].map { counter("{} \($0)") }

    /// Also the same series twice, in another order, and with the label that is replaced.
    private static let badLabels: [String] = [
        "{} 1\nsymvmm_exits_total{} 1", "{__name__=\"up\"} 1", "{a=\"b\",a=\"c\"} 1", "{a=b} 1", "{a=\"b} 1", "{a=\"\\x\"} 1",
        "{a=\"\u{1b}\"} 1",
        "{a=\"\u{9b}\"} 1", "{a=\"\t\"} 1", "{1=\"a\"} 1", "{=\"a\"} 1", "{a=\"b\",} 1", "{a=\"b\"c=\"d\"} 1", "{a=\"b\"", "{le=\"1\"} 1",
        "{a-b=\"1\"} 1",
        "{}1", "{a=\"b\"} ", "{a=\"\(String(repeating: "x", count: 1025))\"} 1",
        "{a=\"\",b=\"\",c=\"\",d=\"\",e=\"\",f=\"\",g=\"\",h=\"\",i=\"\"} 1", "{a=\"b\",c=\"d\"} 1\nsymvmm_exits_total{c=\"d\",a=\"b\"} 2",
        "{vm=\"x\"} 1\nsymvmm_exits_total{vm=\"y\"} 2",
    ].map { counter($0) }

    private static let badHistograms: [String] = [
        "\(bucket("1e-06", "1"))\(end)", "\(bucket("1e-06", "3"))\(last)\(end)", "\(bucket("2", "1"))\(bucket("1", "1"))\(last)\(end)",
        "\(bucket("nan", "1"))\(last)\(end)", "\(bucket("1", "1"))\(bucket("1", "1"))\(last)\(end)", "\(bucket("+Inf", "3"))\(end)", last,
        end,
        "\(last)\(last)\(end)", "\(bucket("1", "1", ",device=\"x\""))\(last)\(end)", "\(bucket("1", "0.5"))\(last)\(end)",
        "\(last)\(end)\(last)\(end)", "\(last)\(head)", "symvmm_exit_duration_seconds_bucket{reason=\"halt\"} 2\n",
    ].map { "\(buckets)\($0)" }

    @Test(
        arguments: ExporterTextTests.badFamilies + ExporterTextTests.badNumbers + ExporterTextTests.badLabels
            + ExporterTextTests.badHistograms)
    func badTextsAreRefused(text: String) {
        #expect(throws: VMMError.self) { try ScrapedMetrics(Array((text + "# EOF\n").utf8), vm: "a") }
    }

    @Test func aTextEndsOnce() {
        for text in ["", "\n", ExporterTextTests.head, "# EOF\n# EOF\n", "# EOF\n" + ExporterTextTests.head, "# EOF x\n"] {
            #expect(throws: VMMError.self) { try ScrapedMetrics(Array(text.utf8), vm: "a") }
        }
        #expect(throws: VMMError.self) { try ScrapedMetrics([0xff] + Array("# EOF\n".utf8), vm: "a") }
    }

    @Test func samplesAreLimited() {
        func text(_ count: Int) -> [UInt8] {
            Array((ExporterTextTests.head + (0..<count).map { "symvmm_exits_total{a=\"\($0)\"} 1\n" }.joined() + "# EOF\n").utf8)
        }
        #expect(throws: Never.self) { try ScrapedMetrics(text(ScrapedMetrics.sampleLimit), vm: "a") }
        #expect(throws: VMMError.self) { try ScrapedMetrics(text(ScrapedMetrics.sampleLimit + 1), vm: "a") }
    }
}
