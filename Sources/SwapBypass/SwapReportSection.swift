// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
internal import VMMAPI
internal import VMMModel
internal import VMMPresentation

extension ReportSection {
    /// Swap traffic over time, and the service's counters.
    static let swapBypass = ReportSection(
        service: SwapBypassService.claims.name,
        state: State(path: "/swap-bypass") { body in
            (try? JSONText.decode(SwapBypassState.self, from: body)).map { "bypass \($0.state.rawValue)" }
        },
        event: { before, after in
            switches(in: before) == switches(in: after) ? nil : "bypass switched"
        },
        html: traffic)

    private static let device = "virtio-blk.\(SwapStore.serial)"

    private static func switches(in report: ExitReport) -> UInt64 {
        count("switched", report.services, SwapBypassService.claims.name)
    }

    private static func count(_ counter: String, _ groups: [ExitReport.CounterGroup]?, _ name: String) -> UInt64 {
        groups?.first { $0.name == name }?.counters[counter] ?? 0
    }

    /// A level in MiB at the end of each interval.
    private static func level(_ name: String, _ counter: String, _ timeline: ReportTimeline) -> TimeChart.Series {
        TimeChart.Series(
            name: name,
            values: timeline.samples.dropFirst().map {
                Double(count(counter, $0.services, SwapBypassService.claims.name)) / Double(1 << 20)
            })
    }

    @Sendable private static func traffic(_ timeline: ReportTimeline) -> String? {
        let service = timeline.whole.services?.first { $0.name == SwapBypassService.claims.name }
        let disk = timeline.whole.devices?.first { $0.name == device }
        guard timeline.samples.count > 1, service != nil || disk != nil else { return nil }
        func pages(_ name: String, _ counter: String) -> TimeChart.Series {
            let bytes = timeline.rates(name) { count(counter, $0.devices, device) }
            return TimeChart.Series(name: name, values: bytes.values.map { $0 / Double(GuestMemory.pageSize) })
        }
        func served(_ name: String, _ counter: String) -> TimeChart.Series {
            timeline.rates(name) { count(counter, $0.services, SwapBypassService.claims.name) }
        }
        let chart = TimeChart(
            id: "swap-chart", unit: "pages per second", moments: timeline.moments,
            series: [
                pages("read from the swap disk", "read_bytes"), pages("written to the swap disk", "written_bytes"),
                served("mapped by bypass", "pages_mapped"), served("swap faults reported to the VMM", "faults"),
            ], marks: timeline.marks, isStacked: false)
        let tiers = TimeChart(
            id: "swap-tiers-chart", unit: "MiB", moments: timeline.moments,
            series: [
                level("in the window's memory", "tier_memory_bytes", timeline), level("compressed", "tier_compressed_bytes", timeline),
                level("in the file", "tier_file_bytes", timeline), level("zero pages", "tier_zero_bytes", timeline),
            ], marks: timeline.marks)
        let hasTiers = service?.counters["tier_memory_bytes"] != nil
        let rows = (service?.counters ?? [:]).sorted { $0.key < $1.key }.map { [$0.key, Format.count($0.value)] }
        return HTMLText.section(
            id: "swap", "Swap traffic",
            "Dashed lines mark when bypass was switched. Areas show where swapped pages are. Counters named guest_ are reported by the guest.",
            chart.html + (hasTiers ? tiers.html : "") + HTMLText.table(id: "swap-table", [("counter", false), ("value", true)], rows))
    }
}
