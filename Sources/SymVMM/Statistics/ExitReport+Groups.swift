// SPDX-License-Identifier: Apache-2.0

/// By what a table of exits has its rows.
public enum ExitGrouping: String, Sendable, CaseIterable {
    /// Reason, device and address together.
    case place
    /// The same for each vCPU.
    case vcpu
    /// Why the guest was left.
    case reason
    /// The device that answered.
    case device
    /// Port, guest-physical address or MSR.
    case address
    /// The guest's process that ran.
    case task
}

extension ExitReport {
    /// A row of a table of exits.
    struct Group {
        /// What the row is about: a word for each of the grouping's columns.
        let labels: [String]
        let latency: LatencySummary
    }

    /// The rows by one thing, their parts added up, the longest total first. Not for tasks, whose exits have no histogram.
    func groups(by grouping: ExitGrouping) -> [Group] {
        var sums: [[String]: LatencySummary] = [:]
        for row in exits { sums[ExitReport.labels(of: row, grouping), default: .empty].merge(row.latency) }
        return sums.map { Group(labels: $0, latency: $1) }.sorted { left, right in
            if left.latency.total != right.latency.total { return left.latency.total > right.latency.total }
            return left.labels.lexicographicallyPrecedes(right.labels)
        }
    }

    private static func labels(of row: Exit, _ grouping: ExitGrouping) -> [String] {
        let address = row.address.map { "0x" + String($0, radix: 16) } ?? ""
        switch grouping {
        case .place, .task: return [row.reason, row.device, address]
        case .vcpu: return ["\(row.vcpu ?? 0)", row.reason, row.device, address]
        case .reason: return [row.reason]
        // Exits that no device answers: what they are is said by their reason.
        case .device: return [row.device.isEmpty ? "(\(row.reason))" : row.device]
        case .address: return [row.address == nil ? "(\(row.reason))" : address, row.device]
        }
    }

    private static func columns(_ grouping: ExitGrouping) -> [TextTable.Column] {
        let place: [TextTable.Column] = [.words("REASON"), .words("DEVICE"), .words("ADDRESS")]
        switch grouping {
        case .place, .task: return place
        case .vcpu: return [.numbers("VCPU")] + place
        case .reason: return [.words("REASON")]
        case .device: return [.words("DEVICE")]
        case .address: return [.words("ADDRESS"), .words("DEVICE")]
        }
    }

    /// The exits as a table.
    ///
    /// - Parameters:
    ///   - rowLimit: at most so many rows; the rest is summed up in one more, so that nothing is lost.
    ///   - rates: whether there is a column of exits a second.
    func exitTable(by grouping: ExitGrouping, rowLimit: Int, rates: Bool = false) -> String {
        let rows = groups(by: grouping)
        let whole = rows.reduce(0) { $0 &+ $1.latency.total }
        let columns = ExitReport.columns(grouping)
        var table = TextTable(
            columns + [.numbers("COUNT")] + (rates ? [.numbers("PER S")] : [])
                + [.numbers("TIME%"), .numbers("MEAN"), .numbers("P50"), .numbers("P99"), .numbers("MAX")])
        func add(_ labels: [String], _ latency: LatencySummary) {
            table.add(
                labels + [Readable.count(latency.count)] + (rates ? [Readable.rate(latency.count, in: countedNanoseconds)] : []) + [
                    Readable.percent(latency.total, of: whole), Readable.duration(UInt64(latency.mean)),
                    Readable.duration(latency.quantile(0.5)), Readable.duration(latency.quantile(0.99)), Readable.duration(latency.maximum),
                ])
        }
        for row in rows.prefix(max(1, rowLimit)) { add(row.labels, row.latency) }
        let rest = rows.dropFirst(max(1, rowLimit))
        if !rest.isEmpty {
            let place = grouping == .vcpu ? 1 : 0
            var labels = columns.map { _ in "" }
            labels[place] = "(\(rest.count) more)"
            add(labels, rest.reduce(.empty) { $0.merged(with: $1.latency) })
        }
        return table.text
    }
}

extension LatencySummary {
    /// Adds another.
    mutating func merge(_ other: LatencySummary) {
        self = merged(with: other)
    }
}
