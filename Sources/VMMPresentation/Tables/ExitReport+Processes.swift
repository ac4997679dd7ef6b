// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

extension ExitReport {
    /// The exits of one guest process, over all vCPUs and reasons.
    struct Process {
        /// Process ID in the guest; nil for all processes that the recorder's table had no room for.
        let tgid: UInt32?
        /// The latest name, as reported by the guest; `(idle)` for the idle tasks of all vCPUs, which count as one process.
        var name = ""
        var count: UInt64 = 0
        var totalNanoseconds: UInt64 = 0
        fileprivate var counts: [String: UInt64] = [:]

        /// `reason count` for each reason, in descending order.
        var reasons: String {
            counts.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }
                .map { "\($0.key) \(Format.count($0.value))" }.joined(separator: ", ")
        }
    }

    /// The task rows added up by process, the longest time first.
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
