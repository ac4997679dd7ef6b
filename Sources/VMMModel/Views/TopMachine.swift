// SPDX-License-Identifier: Apache-2.0

/// A VM as `symvmm top` sees it: what it is, and what it did in the last interval.
package struct TopMachine: Sendable, Encodable, Equatable {
    /// What the VM says of itself.
    package let summary: MachineSummary
    /// Its exits since the start; nil when it does not answer.
    package let total: ExitReport?
    /// Its exits in the interval; nil when it was not there before.
    package let interval: ExitReport?
    /// Processor time of its process in the interval, in parts of one processor.
    package let processorShare: Double?
    /// Resident memory of its process, the guest's included; nil when that is not known.
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

    /// Exits to user space a second.
    package var exitsPerSecond: Double? {
        guard let interval, interval.countedNanoseconds > 0 else { return nil }
        return Double(interval.exitCount) * 1e9 / Double(interval.countedNanoseconds)
    }

    /// Time in user space answering exits, in parts of one processor.
    package var vmmShare: Double? {
        guard let interval, interval.countedNanoseconds > 0 else { return nil }
        return Double(interval.vcpus.reduce(0) { $0 &+ $1.vmmNanoseconds }) / Double(interval.countedNanoseconds)
    }

    /// From where most exits of the interval came.
    package var mostly: String? {
        guard let interval, let most = interval.groups(by: .place).max(by: { $0.latency.count < $1.latency.count }) else { return nil }
        return most.labels.prefix(2).joined(separator: " ")
    }
}

/// By what the VMs are sorted.
package enum TopOrder: String, Sendable, CaseIterable {
    /// The name.
    case name
    /// Exits a second.
    case exits
    /// Processor time of the process.
    case cpu
    /// Time answering exits.
    case vmm
    /// Resident memory.
    case memory
    /// Time since the start.
    case uptime

    /// Sorts: the largest first, names from A; VMs that are equal by name.
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
