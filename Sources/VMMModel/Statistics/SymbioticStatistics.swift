// SPDX-License-Identifier: Apache-2.0

/// Statistics of a VM's symbiotic interface.
public struct SymbioticStatistics: Sendable {
    /// Symcalls of one number on one vCPU.
    public struct SymCallRow: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Number of the symcall (docs/ABI.md, 4.4).
        public let number: UInt32
        /// Durations in nanoseconds, from the symcall's injection to the restored vCPU state.
        public let latency: LatencySummary

        /// Describes a row.
        package init(vcpu: Int, number: UInt32, latency: LatencySummary) {
            self.vcpu = vcpu
            self.number = number
            self.latency = latency
        }
    }

    /// Whether symcalls can be made now.
    public let isActive: Bool
    /// Why not; nil if they can.
    public let unavailableReason: String?
    /// Counters by stable names.
    public let counters: [(name: String, value: UInt64)]
    /// The symcalls so far, by vCPU and number.
    public let symcalls: [SymCallRow]

    /// Describes the statistics.
    package init(isActive: Bool, unavailableReason: String?, counters: [(name: String, value: UInt64)], symcalls: [SymCallRow]) {
        self.isActive = isActive
        self.unavailableReason = unavailableReason
        self.counters = counters
        self.symcalls = symcalls
    }
}
