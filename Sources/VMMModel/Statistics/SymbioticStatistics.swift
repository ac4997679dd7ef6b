// SPDX-License-Identifier: Apache-2.0

/// What happened on a VM's symbiotic interface.
public struct SymbioticStatistics: Sendable {
    /// Symcalls of one number on one vCPU.
    public struct SymCallRow: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Number of the symcall (docs/ABI.md, 4.4).
        public let number: UInt32
        /// Times from the injection to the state put back, in nanoseconds.
        public let latency: LatencySummary

        /// Describes a row.
        package init(vcpu: Int, number: UInt32, latency: LatencySummary) {
            self.vcpu = vcpu
            self.number = number
            self.latency = latency
        }
    }

    /// Symcalls can be made now.
    public let isActive: Bool
    /// Why not, when they cannot.
    public let obstacle: String?
    /// What was counted, by stable names.
    public let counters: [(name: String, value: UInt64)]
    /// Symcalls made.
    public let symcalls: [SymCallRow]

    /// Describes what happened.
    package init(isActive: Bool, obstacle: String?, counters: [(name: String, value: UInt64)], symcalls: [SymCallRow]) {
        self.isActive = isActive
        self.obstacle = obstacle
        self.counters = counters
        self.symcalls = symcalls
    }
}
