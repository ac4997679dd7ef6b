// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

extension ExitReport {
    private static func columns(_ grouping: ExitGrouping) -> [TextTable.Column] {
        let place: [TextTable.Column] = [.text("REASON"), .text("DEVICE"), .text("ADDRESS")]
        switch grouping {
        case .place, .task: return place
        case .vcpu: return [.numbers("VCPU")] + place
        case .reason: return [.text("REASON")]
        case .device: return [.text("DEVICE")]
        case .address: return [.text("ADDRESS"), .text("DEVICE")]
        }
    }

    /// The exits as a table.
    ///
    /// - Parameters:
    ///   - grouping: how exits are grouped.
    ///   - rowLimit: maximum number of rows; one more row sums up the rest.
    ///   - rates: whether to add a column of exits per second.
    func exitTable(by grouping: ExitGrouping, rowLimit: Int, rates: Bool = false) -> String {
        let rows = groups(by: grouping)
        let whole = rows.reduce(0) { $0 &+ $1.latency.total }
        let columns = ExitReport.columns(grouping)
        var table = TextTable(
            columns + [.numbers("COUNT")] + (rates ? [.numbers("PER S")] : [])
                + [.numbers("TIME%"), .numbers("MEAN"), .numbers("P50"), .numbers("P99"), .numbers("MAX")])
        func add(_ labels: [String], _ latency: LatencySummary) {
            table.add(
                labels + [Format.count(latency.count)] + (rates ? [Format.rate(latency.count, in: countedNanoseconds)] : []) + [
                    Format.percent(latency.total, of: whole), Format.duration(latency.meanNanoseconds),
                    Format.duration(latency.quantile(0.5)), Format.duration(latency.quantile(0.99)), Format.duration(latency.maximum),
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
