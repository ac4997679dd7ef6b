// SPDX-License-Identifier: Apache-2.0

/// A VM in `symvmm top`: its summary, and its exits in the last interval.
package struct TopMachine: Sendable, Encodable, Equatable {
    /// The VM's summary.
    package let summary: MachineSummary
    /// Exits since the start; nil if the VM does not answer.
    package let total: ExitReport?
    /// Exits in the interval; nil if the VM is new.
    package let interval: ExitReport?
    /// CPU time of the VMM's process in the interval, as a fraction of one CPU; nil if unknown.
    package let processorShare: Double?
    /// Resident memory of the VMM's process, including the guest's; nil if unknown.
    package let residentByteCount: UInt64?

    /// Describes a VM.
    package init(
        summary: MachineSummary, total: ExitReport?, interval: ExitReport?, processorShare: Double?, residentByteCount: UInt64?
    ) {
        self.summary = summary
        self.total = total
        self.interval = interval
        self.processorShare = processorShare
        self.residentByteCount = residentByteCount
    }

    private enum CodingKeys: String, CodingKey {
        case exitsPerSecond = "exits_per_second"
        case processorShare = "cpu_share"
        case vmmShare = "vmm_share"
        case residentByteCount = "resident_bytes"
        case mostly
    }

    /// The summary's fields and the interval's figures in one object.
    package func encode(to encoder: any Encoder) throws {
        try summary.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(exitsPerSecond, forKey: .exitsPerSecond)
        try container.encodeIfPresent(processorShare, forKey: .processorShare)
        try container.encodeIfPresent(vmmShare, forKey: .vmmShare)
        try container.encodeIfPresent(residentByteCount, forKey: .residentByteCount)
        try container.encodeIfPresent(mostly, forKey: .mostly)
    }

    /// Exits to user space per second in the interval; nil without an interval.
    package var exitsPerSecond: Double? {
        guard let interval, interval.countedNanoseconds > 0 else { return nil }
        return Double(interval.exitCount) * 1e9 / Double(interval.countedNanoseconds)
    }

    /// Time spent handling exits in user space in the interval, as a fraction of one CPU; nil without an interval.
    package var vmmShare: Double? {
        guard let interval, interval.countedNanoseconds > 0 else { return nil }
        return Double(interval.vcpus.reduce(0) { $0 &+ $1.vmmNanoseconds }) / Double(interval.countedNanoseconds)
    }

    /// The reason and device of the most frequent exits in the interval; nil without an interval.
    package var mostly: String? {
        guard let interval, let most = interval.groups(by: .place).max(by: { $0.latency.count < $1.latency.count }) else { return nil }
        return most.labels.prefix(2).joined(separator: " ")
    }
}

/// Sort order of the VMs.
package enum TopOrder: String, Sendable, CaseIterable {
    /// The name.
    case name
    /// Exits per second.
    case exits
    /// CPU time of the process.
    case cpu
    /// Time spent handling exits.
    case vmm
    /// Resident memory.
    case memory
    /// Time since the start.
    case uptime

    /// Sorts in descending order, names in ascending order. Ties are sorted by name.
    package func sorted(_ machines: [TopMachine], reversed: Bool) -> [TopMachine] {
        let sorted = machines.sorted { left, right in
            let (first, second) = (value(left), value(right))
            return first != second ? first > second : left.summary.name < right.summary.name
        }
        return reversed ? sorted.reversed() : sorted
    }

    private func value(_ machine: TopMachine) -> Double {
        switch self {
        case .name: 0
        case .exits: machine.exitsPerSecond ?? -1
        case .cpu: machine.processorShare ?? -1
        case .vmm: machine.vmmShare ?? -1
        case .memory: Double(machine.residentByteCount ?? 0)
        case .uptime: Double(machine.summary.uptimeNanoseconds)
        }
    }
}
