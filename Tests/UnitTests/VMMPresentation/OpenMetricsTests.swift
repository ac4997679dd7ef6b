// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMBase
@testable import VMMModel
@testable import VMMPresentation

@Suite struct OpenMetricsTests {
    private func latency(_ values: [UInt64]) -> LatencySummary {
        LatencySummary(
            total: values.reduce(0, +), minimum: values.min() ?? 0, maximum: values.max() ?? 0,
            buckets: values.sorted().map { .init(upperBound: $0, count: 1) })
    }

    private var statistics: ExitStatistics {
        ExitStatistics(
            uptimeNanoseconds: 2_500_000_000,
            rows: [
                .init(vcpu: 0, reason: .pioWrite, device: "serial", address: 0x3f8, latency: latency([1000, 1500, 11_000_000_000])),
                .init(vcpu: 0, reason: .pioWrite, device: "serial", address: 0x3f9, latency: latency([2000])),
                .init(vcpu: 1, reason: .pioWrite, device: "serial", address: 0x3f8, latency: latency([3_000_000])),
                .init(vcpu: 1, reason: .halt, device: "", address: nil, latency: latency([5])),
            ],
            vcpus: [],
            symbiotic: SymbioticStatistics(
                isActive: true, unavailableReason: nil, counters: [("completed", 3)],
                symcalls: [.init(vcpu: 0, number: 0, latency: latency([7000])), .init(vcpu: 1, number: 0, latency: latency([9000]))]),
            services: [.init(name: "s\"\\\n", counters: [("calls", 1), ("store_bytes", 2), ("guest_hits", 3), ("guest_bytes", 4)])],
            devices: [.init(name: "virtio-rng", counters: [("requests", 1), ("bytes", 2), ("read_bytes", 3)])])
    }

    private var lines: [String] {
        let configuration = MachineConfiguration(name: "vm1", kernelPath: "k")
        return OpenMetricsExport(
            statistics, configuration, .paused, process: ProcessUse(cpuNanoseconds: 1_000_000_001, residentByteCount: 4096)
        ).render().split(separator: "\n").map(String.init)
    }

    @Test func valuesAreTold() {
        for line in [
            #"symvmm_build_info{vm="vm1",version="\#(SymVMMVersion.current)"} 1"#,
            #"symvmm_vm_state{vm="vm1",symvmm_vm_state="paused"} 1"#,
            #"symvmm_vm_state{vm="vm1",symvmm_vm_state="not_started"} 0"#,
            #"symvmm_uptime_seconds{vm="vm1"} 2.5"#,
            #"symvmm_exits_total{vm="vm1",vcpu="0",reason="pio_write",device="serial"} 4"#,
            #"symvmm_exits_total{vm="vm1",vcpu="1",reason="halt"} 1"#,
            #"symvmm_exit_duration_seconds_bucket{vm="vm1",reason="pio_write",device="serial",le="1e-06"} 1"#,
            #"symvmm_exit_duration_seconds_bucket{vm="vm1",reason="pio_write",device="serial",le="2e-06"} 3"#,
            #"symvmm_exit_duration_seconds_bucket{vm="vm1",reason="pio_write",device="serial",le="2.0"} 4"#,
            #"symvmm_exit_duration_seconds_bucket{vm="vm1",reason="pio_write",device="serial",le="5.0"} 4"#,
            #"symvmm_exit_duration_seconds_bucket{vm="vm1",reason="pio_write",device="serial",le="10.0"} 4"#,
            #"symvmm_exit_duration_seconds_bucket{vm="vm1",reason="pio_write",device="serial",le="+Inf"} 5"#,
            #"symvmm_exit_duration_seconds_count{vm="vm1",reason="pio_write",device="serial"} 5"#,
            #"symvmm_exit_duration_seconds_sum{vm="vm1",reason="pio_write",device="serial"} 11.0030045"#,
            #"symvmm_symcall_duration_seconds_count{vm="vm1",call="ping"} 2"#,
            #"symvmm_symbiotic_active{vm="vm1"} 1"#,
            #"symvmm_service_events_total{vm="vm1",service="s\"\\\n",event="calls"} 1"#,
            #"symvmm_service_bytes{vm="vm1",service="s\"\\\n",kind="store"} 2"#,
            #"symvmm_service_guest_events{vm="vm1",service="s\"\\\n",event="hits"} 3"#,
            #"symvmm_service_guest_events{vm="vm1",service="s\"\\\n",event="bytes"} 4"#,
            #"symvmm_device_events_total{vm="vm1",device="virtio-rng",event="requests"} 1"#,
            #"symvmm_device_bytes_total{vm="vm1",device="virtio-rng",kind="all"} 2"#,
            #"symvmm_device_bytes_total{vm="vm1",device="virtio-rng",kind="read"} 3"#,
            #"symvmm_process_cpu_seconds_total{vm="vm1"} 1.000000001"#,
        ] {
            #expect(lines.contains(line), "\(line)")
        }
        #expect(lines.last == "# EOF")
        #expect(Set(lines).count == lines.count)
    }

    @Test func everyFamilyIsDescribedOnce() {
        let types = lines.filter { $0.hasPrefix("# TYPE ") }
        #expect(types.count == Set(types).count)
        for line in lines where !line.hasPrefix("#") {
            #expect(types.contains { type in line.hasPrefix(type.split(separator: " ")[2]) }, "\(line)")
        }
        for unit in lines.filter({ $0.hasPrefix("# UNIT ") }) {
            let words = unit.split(separator: " ")
            #expect(words[2].hasSuffix("_" + words[3]))
        }
    }

    @Test(arguments: [(0, "0.0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (.max, "18446744073.709551615")])
    func secondsAreExact(nanoseconds: UInt64, text: String) {
        #expect(OpenMetricsText.seconds(nanoseconds) == text)
    }
}
