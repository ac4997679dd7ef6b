// SPDX-License-Identifier: Apache-2.0

/// KVM's own counters of a VM or a vCPU (KVM API 4.133 KVM_GET_STATS_FD).
///
/// They show the exits that the kernel answered by itself and user space never saw.
public struct KernelStatistics: Sendable {
    /// A counter or gauge with the kernel's name, for instance `exits`, `halt_exits`, `io_exits`.
    public struct Counter: Sendable, Equatable {
        /// The kernel's name.
        public let name: String
        /// The value; a histogram's is the sum of its buckets.
        public let value: UInt64
        /// Whether the value only ever grows (KVM_STATS_TYPE_CUMULATIVE).
        public let isCumulative: Bool

        /// Describes a counter.
        package init(name: String, value: UInt64, isCumulative: Bool) {
            self.name = name
            self.value = value
            self.isCumulative = isCumulative
        }
    }

    /// Counters of a vCPU that say how it is now instead of how often something was (KVM_STATS_TYPE_INSTANT in arch/x86/kvm/x86.c).
    package static let levels: Set<String> = ["guest_mode", "blocking"]

    /// The counters in the kernel's order.
    public let counters: [Counter]

    /// A set of counters; empty where the kernel has none.
    package init(counters: [Counter] = []) {
        self.counters = counters
    }

    /// The value of a counter by the kernel's name, or nil where this kernel does not have it.
    public subscript(name: String) -> UInt64? {
        counters.first { $0.name == name }?.value
    }
}
