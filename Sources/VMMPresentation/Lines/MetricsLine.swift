// SPDX-License-Identifier: Apache-2.0

package import VMMModel

/// A metrics line like Firecracker's: a JSON object with the changes since the previous line.
///
/// Groups and fields with the same meaning as in Firecracker have its names (`vcpu`, `block_ID`, `net_ID`, `entropy`); the group `symvmm` has the
/// others. docs/METRICS.md describes them.
package enum MetricsLine {
    /// A value of the object.
    package enum Value: Encodable, Equatable {
        /// A number.
        case number(UInt64)
        /// A string.
        case word(String)
        /// A nested object.
        case group([String: Value])

        /// Encodes the value as plain JSON.
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
    ///   - report: the changes since the previous line: `ExitReport.since(_:)`, or the whole report for the first line.
    ///   - state: the VM's state.
    ///   - milliseconds: the time of the line, since 1970-01-01 UTC.
    ///   - missed: number of lines dropped since the last written line.
    ///   - id: the field `id`; nil: none.
    ///   - properties: the field `properties`; nil: none.
    ///   - hasAllGroups: whether the line also has Firecracker's groups and numbers that symvmm does not count, as zeroes.
    package static func object(
        _ report: ExitReport, state: MachineState, milliseconds: UInt64, missed: UInt64, id: String? = nil,
        properties: [String: String]? = nil,
        hasAllGroups: Bool = false
    ) -> Value {
        var fields: [String: Value] = [
            "utc_timestamp_ms": .number(milliseconds), "vcpu": vcpu(report), "symvmm": own(report, state: state, missed: missed),
        ]
        if let id { fields["id"] = .word(id) }
        if let properties { fields["properties"] = .group(properties.mapValues(Value.word)) }
        // All groups are there, also of devices that the VM does not have.
        var sums: [String: [String: UInt64]] = [:]
        for kind in kinds { sums[kind.group] = Dictionary(kind.names.map { ($0.theirs, UInt64(0)) }, uniquingKeysWith: &+) }
        for device in report.devices ?? [] {
            guard let kind = kinds.first(where: { device.name.hasPrefix($0.prefix) }) else { continue }
            let values = Dictionary(kind.names.map { ($1, device.counters[$0] ?? 0) }, uniquingKeysWith: &+)
            sums[kind.group, default: [:]].merge(values, uniquingKeysWith: &+)
            if let point = device.name.firstIndex(of: ".") {
                fields["\(kind.group)_\(device.name[device.name.index(after: point)...])"] = .group(values.mapValues(Value.number))
            }
        }
        for (group, values) in sums { fields[group] = .group(values.mapValues(Value.number)) }
        if hasAllGroups { FirecrackerGroups.fill(&fields) }
        return .group(fields)
    }

    /// Maps our device and counter names to Firecracker's.
    private static let kinds: [(prefix: String, group: String, names: [(ours: String, theirs: String)])] = [
        (
            "virtio-blk", "block",
            [
                ("reads", "read_count"), ("writes", "write_count"), ("flushes", "flush_count"), ("read_bytes", "read_bytes"),
                ("written_bytes", "write_bytes"), ("host_errors", "execute_fails"), ("unsupported_requests", "invalid_reqs_count"),
                ("refused_requests", "invalid_reqs_count"), ("throttled_requests", "rate_limiter_throttled_events"),
            ]
        ),
        (
            "virtio-net", "net",
            [
                ("rx_bytes", "rx_bytes_count"), ("rx_frames", "rx_packets_count"), ("tx_bytes", "tx_bytes_count"),
                ("tx_frames", "tx_packets_count"), ("rx_throttled", "rx_rate_limiter_throttled"),
                ("tx_throttled", "tx_rate_limiter_throttled"),
            ]
        ),
        ("virtio-rng", "entropy", [("requests", "entropy_event_count"), ("bytes", "entropy_bytes")]),
    ]

    private static func vcpu(_ report: ExitReport) -> Value {
        var fields: [String: Value] = [:]
        let reasons: [(ExitReason, String)] = [
            (.pioRead, "exit_io_in"), (.pioWrite, "exit_io_out"), (.mmioRead, "exit_mmio_read"), (.mmioWrite, "exit_mmio_write"),
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
