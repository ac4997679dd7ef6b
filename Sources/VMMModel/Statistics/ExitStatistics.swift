// SPDX-License-Identifier: Apache-2.0

/// A snapshot of a VM's exit statistics. The vCPUs run while it is taken.
public struct ExitStatistics: Sendable {
    /// Exits of one vCPU with the same reason, device and address.
    public struct Row: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// The exit reason.
        public let reason: ExitReason
        /// Name of the device that handled the exit; `none` if no device is at the address, empty if the reason has no device.
        public let device: String
        /// Port, guest-physical address or MSR; nil if the reason has none, or the recorder's table was full.
        public let address: UInt64?
        /// Durations in nanoseconds, from KVM_RUN's return to the next KVM_RUN.
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

    /// Exits with the same reason during one guest process, on one vCPU.
    public struct TaskRow: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Process ID in the guest; nil for the row that counts all further processes when the recorder's table is full.
        public let tgid: UInt32?
        /// Start time of the process in nanoseconds since the guest's boot, as reported by the guest; 0 if unknown.
        public let startTime: UInt64
        /// Name of the task that ran last, as reported by the guest.
        public let name: String
        /// The exit reason.
        public let reason: ExitReason
        /// Number of exits.
        public let count: UInt64
        /// Sum of the durations in nanoseconds, from KVM_RUN's return to the next KVM_RUN.
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

    /// Where one vCPU spent its time.
    public struct VCPU: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Nanoseconds inside KVM_RUN: guest, kernel and halt time.
        public let guestNanoseconds: UInt64
        /// Nanoseconds spent handling exits in user space: the sum over the vCPU's rows.
        public let vmmNanoseconds: UInt64
        /// KVM's own counters, which include exits that KVM handles in the kernel.
        public let kernel: KernelStatistics
        /// All of the vCPU's time; nil before its thread began.
        public let times: VCPUTimes?

        /// Describes a vCPU's time.
        package init(vcpu: Int, guestNanoseconds: UInt64, vmmNanoseconds: UInt64, kernel: KernelStatistics, times: VCPUTimes? = nil) {
            self.vcpu = vcpu
            self.guestNanoseconds = guestNanoseconds
            self.vmmNanoseconds = vmmNanoseconds
            self.kernel = kernel
            self.times = times
        }
    }

    /// Counters of a symbiotic service or a virtio device.
    public struct CounterGroup: Sendable {
        /// The service's or the device's name.
        public let name: String
        /// The counters, in output order.
        public let counters: [(name: String, value: UInt64)]

        /// Describes a group.
        package init(name: String, counters: [(name: String, value: UInt64)]) {
            self.name = name
            self.counters = counters
        }
    }

    /// Nanoseconds of CLOCK_MONOTONIC since the machine was built.
    public let uptimeNanoseconds: UInt64
    /// All rows, by vCPU, then by total time in descending order.
    public let rows: [Row]
    /// One for each vCPU.
    public let vcpus: [VCPU]
    /// Exits by guest process; empty without the guest's symbiotic module.
    public let tasks: [TaskRow]
    /// Statistics of the symbiotic interface; nil if symvmm does not offer it to the guest.
    public let symbiotic: SymbioticStatistics?
    /// One for each symbiotic service.
    public let services: [CounterGroup]
    /// One for each virtio device.
    public let devices: [CounterGroup]

    /// Creates a snapshot, for tests and other sources.
    public init(
        uptimeNanoseconds: UInt64, rows: [Row], vcpus: [VCPU], tasks: [TaskRow] = [], symbiotic: SymbioticStatistics? = nil,
        services: [CounterGroup] = [], devices: [CounterGroup] = []
    ) {
        self.uptimeNanoseconds = uptimeNanoseconds
        self.rows = rows
        self.vcpus = vcpus
        self.tasks = tasks
        self.symbiotic = symbiotic
        self.services = services
        self.devices = devices
    }

    /// Number of exits to user space of the whole VM: the sum over the rows.
    public var exitCount: UInt64 {
        rows.reduce(0) { $0 &+ $1.latency.count }
    }
}
