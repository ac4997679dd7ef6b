// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

extension ExitReport {
    /// What one process of the guest caused, on all vCPUs and for all reasons.
    struct Process {
        /// Process number in the guest; nil for those that had no room in the table.
        let tgid: UInt32?
        /// The newest name, as the guest says; the idle tasks of all vCPUs are one process.
        var name = ""
        var count: UInt64 = 0
        var totalNanoseconds: UInt64 = 0
        fileprivate var counts: [String: UInt64] = [:]

        /// `reason count`, the most frequent first.
        var reasons: String {
            counts.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }
                .map { "\($0.key) \(Format.count($0.value))" }.joined(separator: ", ")
        }
    }

    /// The rows of tasks, added up by process, the longest time first.
    var processes: [Process] {
        struct Key: Hashable {
            let tgid: UInt32?
            let startTime: UInt64?
        }
        var sums: [Key: Process] = [:]
        for row in tasks {
            let key = Key(tgid: row.tgid, startTime: row.startTime)
            var sum = sums[key] ?? Process(tgid: row.tgid)
            sum.name = row.tgid == 0 ? "(idle)" : row.name
            sum.count &+= row.count
            sum.totalNanoseconds &+= row.totalNanoseconds
            sum.counts[row.reason, default: 0] &+= row.count
            sums[key] = sum
        }
        return sums.values.sorted { ($0.totalNanoseconds, $1.tgid ?? 0) > ($1.totalNanoseconds, $0.tgid ?? 0) }
    }
}
