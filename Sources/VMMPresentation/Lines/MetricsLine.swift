// SPDX-License-Identifier: Apache-2.0

package import VMMModel

/// One line of metrics in the manner of Firecracker: a JSON object, whose numbers are what happened since the line before.
///
/// Groups and fields that mean the same have Firecracker's names (`vcpu`, `block_ID`, `net_ID`, `entropy`); what only symvmm has is in the
/// group `symvmm`. docs/METRICS.md describes them.
package enum MetricsLine {
    /// A value of the object.
    package enum Value: Encodable, Equatable {
        case number(UInt64)
        case word(String)
        case group([String: Value])

        package func encode(to encoder: any Encoder) throws {
            switch self {
            case .number(let number):
                var container = encoder.singleValueContainer()
                try container.encode(number)
            case .word(let word):
                var container = encoder.singleValueContainer()
                try container.encode(word)
            case .group(let fields):
                var container = encoder.singleValueContainer()
                try container.encode(fields)
            }
        }
    }

    /// The line's object.
    ///
    /// - Parameters:
    ///   - report: what happened since the line before: `ExitReport.since(_:)`, or everything for the first.
    ///   - missed: lines that nobody took, since the last one that somebody did.
    package static func object(_ report: ExitReport, state: MachineState, milliseconds: UInt64, missed: UInt64) -> Value {
        var fields: [String: Value] = [
            "utc_timestamp_ms": .number(milliseconds), "vcpu": vcpu(report), "symvmm": own(report, state: state, missed: missed),
        ]
        var sums: [String: [String: UInt64]] = [:]
        for device in report.devices ?? [] {
            guard let kind = kinds.first(where: { device.name.hasPrefix($0.prefix) }) else { continue }
            let values = Dictionary(kind.names.map { ($1, device.counters[$0] ?? 0) }, uniquingKeysWith: &+)
            sums[kind.group, default: [:]].merge(values, uniquingKeysWith: &+)
            if let point = device.name.firstIndex(of: ".") {
                fields["\(kind.group)_\(device.name[device.name.index(after: point)...])"] = .group(values.mapValues(Value.number))
            }
        }
        for (group, values) in sums { fields[group] = .group(values.mapValues(Value.number)) }
        return .group(fields)
    }

    /// Our devices and counters, and Firecracker's names for them.
    private static let kinds: [(prefix: String, group: String, names: [(ours: String, theirs: String)])] = [
        (
            "virtio-blk", "block",
            [
                ("reads", "read_count"), ("writes", "write_count"), ("flushes", "flush_count"), ("read_bytes", "read_bytes"),
                ("written_bytes", "write_bytes"), ("host_errors", "execute_fails"), ("unsupported_requests", "invalid_reqs_count"),
                ("refused_requests", "invalid_reqs_count"),
            ]
        ),
        (
            "virtio-net", "net",
            [
                ("rx_bytes", "rx_bytes_count"), ("rx_frames", "rx_packets_count"), ("tx_bytes", "tx_bytes_count"),
                ("tx_frames", "tx_packets_count"),
            ]
        ),
        ("virtio-rng", "entropy", [("requests", "entropy_event_count"), ("bytes", "entropy_bytes")]),
    ]

    private static func vcpu(_ report: ExitReport) -> Value {
        var fields: [String: Value] = [:]
        let reasons: [(ExitReason, String)] = [
            (.portRead, "exit_io_in"), (.portWrite, "exit_io_out"), (.mmioRead, "exit_mmio_read"), (.mmioWrite, "exit_mmio_write"),
        ]
        for (reason, name) in reasons {
            let latency = summary(report, reason)
            fields[name] = .number(latency.count)
            let times = ["min_us": latency.minimum, "max_us": latency.maximum, "sum_us": latency.total]
            fields[name + "_agg"] = .group(times.mapValues { .number($0 / 1000) })
        }
        fields["failures"] = .number(summary(report, .failEntry).count &+ summary(report, .internalError).count)
        return .group(fields)
    }

    private static func summary(_ report: ExitReport, _ reason: ExitReason) -> LatencySummary {
        report.exits.filter { $0.reason == reason.description }.reduce(.empty) { $0.merged(with: $1.latency) }
    }

    private static func own(_ report: ExitReport, state: MachineState, missed: UInt64) -> Value {
        var fields: [String: Value] = [
            "vm": .word(report.name), "state": .word(state.rawValue), "uptime_ms": .number(report.uptimeNanoseconds / 1_000_000),
            "interval_ms": .number(report.countedNanoseconds / 1_000_000), "missed_lines": .number(missed),
            "exit_count": .number(report.exitCount),
            "guest_us": .number(report.vcpus.reduce(0) { $0 &+ $1.guestNanoseconds } / 1000),
            "vmm_us": .number(report.vcpus.reduce(0) { $0 &+ $1.vmmNanoseconds } / 1000),
        ]
        var exits: [String: UInt64] = [:]
        for row in report.exits { exits[row.reason, default: 0] &+= row.count }
        fields["exits"] = .group(exits.mapValues(Value.number))
        var kernel: [String: UInt64] = [:]
        for processor in report.vcpus {
            kernel.merge(processor.kernel.filter { !KernelStatistics.levels.contains($0.key) }, uniquingKeysWith: &+)
        }
        fields["kvm"] = .group(kernel.mapValues(Value.number))
        if let symbiotic = report.symbiotic { fields["symbiotic"] = .group(symbiotic.counters.mapValues(Value.number)) }
        for (name, parts) in [("services", report.services), ("devices", report.devices)] {
            let groups = (parts ?? []).map { ($0.name, Value.group($0.counters.mapValues(Value.number))) }
            if !groups.isEmpty { fields[name] = .group(Dictionary(groups) { first, _ in first }) }
        }
        return .group(fields)
    }
}
