// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

extension ExitReport {
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
                labels + [Format.count(latency.count)] + (rates ? [Format.rate(latency.count, in: countedNanoseconds)] : []) + [
                    Format.percent(latency.total, of: whole), Format.duration(UInt64(latency.mean)),
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
