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
    }

    /// Exits for one reason while one process of the guest ran on one vCPU.
    public struct TaskRow: Sendable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Process number in the guest; nil for the row that processes beyond the table's size share.
        public let tgid: UInt32?
        /// The name of the task that ran last, as the guest says.
        public let name: String
        /// What left the guest.
        public let reason: ExitReason
        /// Number of exits.
        public let count: UInt64
        /// Sum of the times from KVM_RUN's return to the next KVM_RUN.
        public let totalNanoseconds: UInt64
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
    }

    /// What a symbiotic service or a virtio device has counted.
    public struct Service: Sendable {
        /// The service's or the device's name.
        public let name: String
        /// Its counters, in the order to print.
        public let counters: [(name: String, value: UInt64)]
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
    public let services: [Service]
    /// One for each virtio device.
    public let devices: [Service]

    /// A picture put together by hand, for tests and for other sources.
    public init(
        uptimeNanoseconds: UInt64, rows: [Row], processors: [Processor], tasks: [TaskRow] = [], symbiotic: SymbioticStatistics? = nil,
        services: [Service] = [], devices: [Service] = []
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

/// Why a guest left to user space. The raw values are stable names for programs.
public enum ExitReason: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    /// IN from a port.
    case portRead
    /// OUT to a port.
    case portWrite
    /// A read of a device's memory.
    case mmioRead
    /// A write to a device's memory.
    case mmioWrite
    /// RDMSR of a register that symvmm answers.
    case msrRead
    /// WRMSR to a register that symvmm answers.
    case msrWrite
    /// A signal, usually a kick from another thread.
    case interrupted
    /// HLT that KVM did not handle.
    case halt
    /// Triple fault or shutdown.
    case shutdown
    /// A system event: reset or power-off by a paravirtual interface.
    case systemEvent
    /// KVM could not go on.
    case internalError
    /// The processor refused the guest's state.
    case failEntry
    /// Any other.
    case other

    /// The stable name: snake case.
    public var description: String {
        switch self {
        case .portRead: "port_read"
        case .portWrite: "port_write"
        case .mmioRead: "mmio_read"
        case .mmioWrite: "mmio_write"
        case .msrRead: "msr_read"
        case .msrWrite: "msr_write"
        case .interrupted: "interrupted"
        case .halt: "halt"
        case .shutdown: "shutdown"
        case .systemEvent: "system_event"
        case .internalError: "internal_error"
        case .failEntry: "fail_entry"
        case .other: "other"
        }
    }
}

/// Count, sum, extremes and a histogram of durations in nanoseconds. Summaries add up: the parts' sum is the whole's.
public struct LatencySummary: Sendable, Equatable {
    /// A histogram's bucket: `count` durations of at most `upperBound` nanoseconds and more than the bucket before.
    public struct Bucket: Sendable, Equatable {
        /// Inclusive, in nanoseconds.
        public let upperBound: UInt64
        /// Durations in the bucket.
        public let count: UInt64

        /// Describes a bucket.
        public init(upperBound: UInt64, count: UInt64) {
            self.upperBound = upperBound
            self.count = count
        }
    }

    /// Number of durations: the sum over the buckets.
    public let count: UInt64
    /// Their sum.
    public let total: UInt64
    /// The shortest, 0 when there is none.
    public let minimum: UInt64
    /// The longest, 0 when there is none.
    public let maximum: UInt64
    /// The buckets that hold something, in rising order.
    public let buckets: [Bucket]

    /// A summary of nothing.
    public static let empty = LatencySummary(total: 0, minimum: 0, maximum: 0, buckets: [])

    /// Puts a summary together; the count is the buckets' sum.
    public init(total: UInt64, minimum: UInt64, maximum: UInt64, buckets: [Bucket]) {
        self.count = buckets.reduce(0) { $0 &+ $1.count }
        self.total = total
        self.minimum = minimum
        self.maximum = maximum
        self.buckets = buckets
    }

    /// Mean in nanoseconds, 0 when there is none.
    public var mean: Double {
        count == 0 ? 0 : Double(total) / Double(count)
    }

    /// The value that `fraction` (0 to 1) of the durations do not exceed: a bucket's upper bound, within the histogram's 6 %, never more than
    /// the longest.
    public func quantile(_ fraction: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let rank = UInt64((Double(count) * min(max(fraction, 0), 1)).rounded(.up))
        var seen: UInt64 = 0
        for bucket in buckets {
            seen &+= bucket.count
            if seen >= max(rank, 1) { return min(bucket.upperBound, maximum) }
        }
        return maximum
    }

    /// The summary of both together.
    public func merged(with other: LatencySummary) -> LatencySummary {
        if count == 0 { return other }
        if other.count == 0 { return self }
        var merged: [Bucket] = []
        merged.reserveCapacity(buckets.count + other.buckets.count)
        var left = buckets[...]
        var right = other.buckets[...]
        while let first = left.first, let second = right.first {
            if first.upperBound == second.upperBound {
                merged.append(Bucket(upperBound: first.upperBound, count: first.count &+ second.count))
                left = left.dropFirst()
                right = right.dropFirst()
            } else if first.upperBound < second.upperBound {
                merged.append(first)
                left = left.dropFirst()
            } else {
                merged.append(second)
                right = right.dropFirst()
            }
        }
        merged += left
        merged += right
        return LatencySummary(
            total: total &+ other.total, minimum: min(minimum, other.minimum), maximum: max(maximum, other.maximum), buckets: merged)
    }
}
