// SPDX-License-Identifier: Apache-2.0

/// KVM's own statistics of a VM or a vCPU (KVM API 4.133 KVM_GET_STATS_FD).
///
/// They include the exits that KVM handles in the kernel, without a return to user space.
public struct KernelStatistics: Sendable {
    /// A counter or gauge: `exits`, `halt_exits`, `io_exits`, ...
    public struct Counter: Sendable, Equatable {
        /// The kernel's name.
        public let name: String
        /// The value; for a histogram, the sum of its buckets.
        public let value: UInt64
        /// Whether the value only increases (KVM_STATS_TYPE_CUMULATIVE).
        public let isCumulative: Bool

        /// Describes a counter.
        package init(name: String, value: UInt64, isCumulative: Bool) {
            self.name = name
            self.value = value
            self.isCumulative = isCumulative
        }
    }

    /// vCPU statistics that are gauges, not counters: those of type KVM_STATS_TYPE_INSTANT (arch/x86/kvm/x86.c and include/linux/kvm_host.h).
    package static let levels: Set<String> = ["guest_mode", "blocking"]

    /// The counters in the kernel's order.
    public let counters: [Counter]

    /// A set of counters; empty if the kernel has none.
    package init(counters: [Counter] = []) {
        self.counters = counters
    }

    /// The value of a counter; nil if this kernel does not have it.
    public subscript(name: String) -> UInt64? {
        counters.first { $0.name == name }?.value
    }
}
