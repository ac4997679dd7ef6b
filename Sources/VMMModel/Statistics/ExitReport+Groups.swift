// SPDX-License-Identifier: Apache-2.0

/// How exits are grouped into table rows.
package enum ExitGrouping: String, Sendable, CaseIterable {
    /// By reason, device and address.
    case place
    /// By vCPU, reason, device and address.
    case vcpu
    /// By exit reason.
    case reason
    /// By device.
    case device
    /// By port, guest-physical address or MSR.
    case address
    /// By the guest process that was running.
    case task
}

extension ExitReport {
    /// A group of exits: one table row.
    package struct Group {
        /// The group's labels, one for each column of the grouping.
        package let labels: [String]
        /// Durations of the group's exits.
        package let latency: LatencySummary
    }

    /// Groups the exits, the longest total time first. `task` gives the same groups as `place`, because the rows of processes have no histogram.
    package func groups(by grouping: ExitGrouping) -> [Group] {
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
        // Exits without a device are labelled by their reason.
        case .device: return [row.device.isEmpty ? "(\(row.reason))" : row.device]
        case .address: return [row.address == nil ? "(\(row.reason))" : address, row.device]
        }
    }
}
