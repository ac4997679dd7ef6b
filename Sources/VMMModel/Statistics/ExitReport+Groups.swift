// SPDX-License-Identifier: Apache-2.0

/// By what a table of exits has its rows.
package enum ExitGrouping: String, Sendable, CaseIterable {
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
    package struct Group {
        /// What the row is about: a word for each of the grouping's columns.
        package let labels: [String]
        package let latency: LatencySummary
    }

    /// The rows by one thing, their parts added up, the longest total first. Not for tasks, whose exits have no histogram.
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
        // Exits that no device answers: what they are is said by their reason.
        case .device: return [row.device.isEmpty ? "(\(row.reason))" : row.device]
        case .address: return [row.address == nil ? "(\(row.reason))" : address, row.device]
        }
    }
}
