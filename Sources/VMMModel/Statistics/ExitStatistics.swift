// SPDX-License-Identifier: Apache-2.0

/// A picture of a VM's exit statistics at one moment, made without stopping a vCPU.
public struct ExitStatistics: Sendable {
    /// Exits of one vCPU for one reason at one place of one device.
    public struct Row: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// What left the guest.
        public let reason: ExitReason
        /// Name of the device that answered; `none` where the guest touched a place with no device, empty where the reason has no device.
        public let device: String
        /// Port or guest-physical address for port, MMIO and MSR exits; nil otherwise, and nil for what did not fit in the table.
        public let address: UInt64?
        /// Times in nanoseconds from KVM_RUN's return to the next KVM_RUN.
        public let latency: LatencySummary

        /// Describes a row.
        package init(vcpu: Int, reason: ExitReason, device: String, address: UInt64?, latency: LatencySummary) {
            self.vcpu = vcpu
            self.reason = reason
            self.device = device
            self.address = address
            self.latency = latency
        }
    }

    /// Exits for one reason while one process of the guest ran on one vCPU.
    public struct TaskRow: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Process number in the guest; nil for the row that processes beyond the table's size share.
        public let tgid: UInt32?
        /// Start of the process in nanoseconds since the guest's boot, as the guest says; 0 when it is not known.
        public let startTime: UInt64
        /// The name of the task that ran last, as the guest says.
        public let name: String
        /// What left the guest.
        public let reason: ExitReason
        /// Number of exits.
        public let count: UInt64
        /// Sum of the times from KVM_RUN's return to the next KVM_RUN.
        public let totalNanoseconds: UInt64

        /// Describes a row.
        package init(
            vcpu: Int, tgid: UInt32?, startTime: UInt64 = 0, name: String, reason: ExitReason, count: UInt64, totalNanoseconds: UInt64
        ) {
            self.vcpu = vcpu
            self.tgid = tgid
            self.startTime = startTime
            self.name = name
            self.reason = reason
            self.count = count
            self.totalNanoseconds = totalNanoseconds
        }
    }

    /// How one vCPU spent its time.
    public struct Processor: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Nanoseconds inside KVM_RUN: the guest, and the kernel for it, halted time included.
        public let guestNanoseconds: UInt64
        /// Nanoseconds in user space answering exits: the sum over the vCPU's rows.
        public let vmmNanoseconds: UInt64
        /// KVM's own counters, for the exits user space does not see.
        public let kernel: KernelStatistics

        /// Describes a vCPU's time.
        package init(vcpu: Int, guestNanoseconds: UInt64, vmmNanoseconds: UInt64, kernel: KernelStatistics) {
            self.vcpu = vcpu
            self.guestNanoseconds = guestNanoseconds
            self.vmmNanoseconds = vmmNanoseconds
            self.kernel = kernel
        }
    }

    /// What a symbiotic service or a virtio device has counted.
    public struct CounterGroup: Sendable {
        /// The service's or the device's name.
        public let name: String
        /// Its counters, in the order to print.
        public let counters: [(name: String, value: UInt64)]

        /// Describes a group.
        package init(name: String, counters: [(name: String, value: UInt64)]) {
            self.name = name
            self.counters = counters
        }
    }

    /// Nanoseconds of CLOCK_MONOTONIC since the VM started.
    public let uptimeNanoseconds: UInt64
    /// All rows, by vCPU, then by total time, the longest first.
    public let rows: [Row]
    /// One for each vCPU.
    public let processors: [Processor]
    /// Exits by guest process, of guests with the symbiotic module; empty otherwise.
    public let tasks: [TaskRow]
    /// What happened on the symbiotic interface; nil when the guest is not offered one.
    public let symbiotic: SymbioticStatistics?
    /// One for each symbiotic service.
    public let services: [CounterGroup]
    /// One for each virtio device.
    public let devices: [CounterGroup]

    /// A picture put together by hand, for tests and for other sources.
    public init(
        uptimeNanoseconds: UInt64, rows: [Row], processors: [Processor], tasks: [TaskRow] = [], symbiotic: SymbioticStatistics? = nil,
        services: [CounterGroup] = [], devices: [CounterGroup] = []
    ) {
        self.uptimeNanoseconds = uptimeNanoseconds
        self.rows = rows
        self.processors = processors
        self.tasks = tasks
        self.symbiotic = symbiotic
        self.services = services
        self.devices = devices
    }

    /// Exits to user space of the whole VM: the sum over the rows.
    public var exitCount: UInt64 {
        rows.reduce(0) { $0 &+ $1.latency.count }
    }
}
