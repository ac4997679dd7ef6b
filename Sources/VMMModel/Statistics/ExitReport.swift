// SPDX-License-Identifier: Apache-2.0

/// Exit statistics in the form that leaves the process: the JSON of `--stats-file`, `GET /exit-statistics` and `symvmm stats --json`.
///
/// The field names are stable. Times are whole nanoseconds and say so (`_ns`).
public struct ExitReport: Codable, Sendable, Equatable {
    /// Exits of one vCPU for one reason at one place of one device.
    public struct Exit: Codable, Sendable, Equatable {
        /// Number of the vCPU; absent where the rows of all vCPUs are added up.
        public let vcpu: Int?
        /// Name of the reason, as `ExitReason.description`.
        public let reason: String
        /// Name of the device, `none` where there is none at the address, empty where the reason has no device.
        public let device: String
        /// Port, guest-physical address or MSR; absent where the reason has none.
        public let address: UInt64?
        /// Number of exits.
        public let count: UInt64
        /// Sum of the times from KVM_RUN's return to the next KVM_RUN.
        public let totalNanoseconds: UInt64
        /// The shortest.
        public let minimumNanoseconds: UInt64
        /// The mean, rounded.
        public let meanNanoseconds: UInt64
        /// The median, within the histogram's 6 %.
        public let medianNanoseconds: UInt64
        /// What 99 % do not exceed, within the histogram's 6 %.
        public let p99Nanoseconds: UInt64
        /// The longest.
        public let maximumNanoseconds: UInt64
        /// The histogram's buckets that hold something, rising.
        public let histogram: [Bucket]

        enum CodingKeys: String, CodingKey {
            case vcpu, reason, device, address, count, histogram
            case totalNanoseconds = "total_ns"
            case minimumNanoseconds = "minimum_ns"
            case meanNanoseconds = "mean_ns"
            case medianNanoseconds = "p50_ns"
            case p99Nanoseconds = "p99_ns"
            case maximumNanoseconds = "maximum_ns"
        }

        package init(vcpu: Int?, reason: String, device: String, address: UInt64?, latency: LatencySummary) {
            self.vcpu = vcpu
            self.reason = reason
            self.device = device
            self.address = address
            count = latency.count
            totalNanoseconds = latency.total
            minimumNanoseconds = latency.minimum
            meanNanoseconds = latency.count == 0 ? 0 : latency.total / latency.count
            medianNanoseconds = latency.quantile(0.5)
            p99Nanoseconds = latency.quantile(0.99)
            maximumNanoseconds = latency.maximum
            histogram = latency.buckets.map { Bucket(upToNanoseconds: $0.upperBound, count: $0.count) }
        }

        /// The summary that the row was made of.
        package var latency: LatencySummary {
            LatencySummary(
                total: totalNanoseconds, minimum: minimumNanoseconds, maximum: maximumNanoseconds,
                buckets: histogram.map { .init(upperBound: $0.upToNanoseconds, count: $0.count) })
        }
    }

    /// A bucket of a histogram.
    public struct Bucket: Codable, Sendable, Equatable {
        /// Upper bound, inclusive.
        public let upToNanoseconds: UInt64
        /// Exits in the bucket.
        public let count: UInt64

        enum CodingKeys: String, CodingKey {
            case upToNanoseconds = "up_to_ns"
            case count
        }
    }

    /// How one vCPU spent its time.
    public struct Processor: Codable, Sendable, Equatable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Its exits to user space.
        public let exitCount: UInt64
        /// Inside KVM_RUN: the guest, and the kernel for it, halted time included.
        public let guestNanoseconds: UInt64
        /// In user space, answering exits.
        public let vmmNanoseconds: UInt64
        /// KVM's own counters, by the kernel's names.
        public let kernel: [String: UInt64]

        enum CodingKeys: String, CodingKey {
            case vcpu, kernel
            case exitCount = "exit_count"
            case guestNanoseconds = "guest_ns"
            case vmmNanoseconds = "vmm_ns"
        }

        /// Exits that the kernel answered by itself, where it counts its exits.
        package var unseenExits: UInt64? {
            kernel["exits"].map { $0 > exitCount ? $0 &- exitCount : 0 }
        }
    }

    /// Exits for one reason while one process of the guest ran.
    public struct Task: Codable, Sendable, Equatable {
        /// Number of the vCPU; absent where the rows of all vCPUs are added up.
        public let vcpu: Int?
        /// Process number in the guest; absent for the row that processes beyond the table's size share.
        public let tgid: UInt32?
        /// Start of the process in nanoseconds since the guest's boot, as the guest says; absent when it is not known. Together with the number it
        /// names a process: numbers are used again.
        public let startTime: UInt64?
        /// The task's name, as the guest says.
        public let name: String
        /// Name of the reason.
        public let reason: String
        /// Number of exits.
        public let count: UInt64
        /// Sum of the times from KVM_RUN's return to the next KVM_RUN.
        public let totalNanoseconds: UInt64

        enum CodingKeys: String, CodingKey {
            case vcpu, tgid, name, reason, count
            case startTime = "start_ns"
            case totalNanoseconds = "total_ns"
        }

        /// Describes a row.
        package init(
            vcpu: Int?, tgid: UInt32?, startTime: UInt64? = nil, name: String, reason: String, count: UInt64, totalNanoseconds: UInt64
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

    /// What happened on the symbiotic interface.
    public struct Symbiotic: Codable, Sendable, Equatable {
        /// Symcalls can be made now.
        public let active: Bool
        /// Why not, when they cannot.
        public let obstacle: String?
        /// What was counted.
        public let counters: [String: UInt64]
        /// Symcalls made, by number.
        public let symcalls: [SymCall]
    }

    /// Symcalls of one number, over all vCPUs.
    public struct SymCall: Codable, Sendable, Equatable {
        /// Number of the symcall (docs/ABI.md, 4.4).
        public let number: UInt32
        /// Number of calls.
        public let count: UInt64
        /// Sum of the times from the injection to the state put back.
        public let totalNanoseconds: UInt64
        /// The shortest.
        public let minimumNanoseconds: UInt64
        /// The median, within the histogram's 6 %.
        public let medianNanoseconds: UInt64
        /// What 99 % do not exceed.
        public let p99Nanoseconds: UInt64
        /// The longest.
        public let maximumNanoseconds: UInt64
        /// The histogram's buckets that hold something, rising.
        public let histogram: [Bucket]

        enum CodingKeys: String, CodingKey {
            case number, count, histogram
            case totalNanoseconds = "total_ns"
            case minimumNanoseconds = "minimum_ns"
            case medianNanoseconds = "p50_ns"
            case p99Nanoseconds = "p99_ns"
            case maximumNanoseconds = "maximum_ns"
        }

        package init(number: UInt32, latency: LatencySummary) {
            self.number = number
            count = latency.count
            totalNanoseconds = latency.total
            minimumNanoseconds = latency.minimum
            medianNanoseconds = latency.quantile(0.5)
            p99Nanoseconds = latency.quantile(0.99)
            maximumNanoseconds = latency.maximum
            histogram = latency.buckets.map { Bucket(upToNanoseconds: $0.upperBound, count: $0.count) }
        }

        /// The summary that the row was made of.
        package var latency: LatencySummary {
            LatencySummary(
                total: totalNanoseconds, minimum: minimumNanoseconds, maximum: maximumNanoseconds,
                buckets: histogram.map { .init(upperBound: $0.upToNanoseconds, count: $0.count) })
        }
    }

    /// What a symbiotic service or a virtio device has counted.
    public struct CounterGroup: Codable, Sendable, Equatable {
        /// The service's or the device's name.
        public let name: String
        /// Its counters.
        public let counters: [String: UInt64]
    }

    /// Version of the form: 1. Fields may be added within a version.
    public let version: Int
    /// The VM's name.
    public let name: String
    /// Nanoseconds since the VM started.
    public let uptimeNanoseconds: UInt64
    /// Uptime at which the counts below began, in nanoseconds; absent when that was the start.
    public let resetNanoseconds: UInt64?
    /// Exits to user space of the whole VM: the sum over the rows.
    public let exitCount: UInt64
    /// The rows.
    public let exits: [Exit]
    /// One for each vCPU.
    public let vcpus: [Processor]
    /// Exits by guest process; empty for a guest without the symbiotic module.
    public let tasks: [Task]
    /// The symbiotic interface; absent when the guest is not offered one.
    public let symbiotic: Symbiotic?
    /// The symbiotic services; absent when there is none.
    public let services: [CounterGroup]?
    /// The virtio devices; absent when there is none.
    public let devices: [CounterGroup]?

    enum CodingKeys: String, CodingKey {
        case version, name, exits, vcpus, tasks, symbiotic, services, devices
        case uptimeNanoseconds = "uptime_ns"
        case resetNanoseconds = "reset_ns"
        case exitCount = "exit_count"
    }

    /// Makes the report of a picture.
    public init(_ statistics: ExitStatistics, name: String) {
        self.init(
            name: name, uptimeNanoseconds: statistics.uptimeNanoseconds,
            exits: statistics.rows.map {
                Exit(vcpu: $0.vcpu, reason: $0.reason.description, device: $0.device, address: $0.address, latency: $0.latency)
            },
            vcpus: statistics.processors.map { processor in
                let rows = statistics.rows.filter { $0.vcpu == processor.vcpu }
                return Processor(
                    vcpu: processor.vcpu, exitCount: rows.reduce(0) { $0 &+ $1.latency.count },
                    guestNanoseconds: processor.guestNanoseconds, vmmNanoseconds: processor.vmmNanoseconds,
                    kernel: Dictionary(processor.kernel.counters.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first }))
            },
            tasks: statistics.tasks.map { row in
                Task(
                    vcpu: row.vcpu, tgid: row.tgid, startTime: row.startTime == 0 ? nil : row.startTime, name: row.name,
                    reason: row.reason.description, count: row.count,
                    totalNanoseconds: row.totalNanoseconds)
            },
            symbiotic: statistics.symbiotic.map(Symbiotic.init),
            services: ExitReport.services(statistics.services), devices: ExitReport.services(statistics.devices))
    }

    private static func services(_ parts: [ExitStatistics.CounterGroup]) -> [CounterGroup]? {
        parts.isEmpty
            ? nil
            : parts.map { part in
                CounterGroup(name: part.name, counters: Dictionary(part.counters.map { ($0.name, $0.value) }) { first, _ in first })
            }
    }

    /// Puts a report together.
    package init(
        name: String, uptimeNanoseconds: UInt64, resetNanoseconds: UInt64? = nil, exits: [Exit], vcpus: [Processor], tasks: [Task] = [],
        symbiotic: Symbiotic? = nil, services: [CounterGroup]? = nil, devices: [CounterGroup]? = nil
    ) {
        self.resetNanoseconds = resetNanoseconds
        self.devices = devices
        self.tasks = tasks
        self.symbiotic = symbiotic
        self.services = services
        version = 1
        self.name = name
        self.uptimeNanoseconds = uptimeNanoseconds
        self.exits = exits
        self.vcpus = vcpus
        exitCount = exits.reduce(0) { $0 &+ $1.count }
    }

    /// The same with the rows of all vCPUs added up, the longest total first.
    public func aggregated() -> ExitReport {
        struct Place: Hashable {
            let reason: String
            let device: String
            let address: UInt64?
        }
        var sums: [Place: LatencySummary] = [:]
        for row in exits {
            let place = Place(reason: row.reason, device: row.device, address: row.address)
            sums[place] = (sums[place] ?? .empty).merged(with: row.latency)
        }
        let rows = sums.map { Exit(vcpu: nil, reason: $0.reason, device: $0.device, address: $0.address, latency: $1) }
        return ExitReport(
            name: name, uptimeNanoseconds: uptimeNanoseconds, resetNanoseconds: resetNanoseconds,
            exits: rows.sorted(by: ExitReport.longestFirst), vcpus: vcpus, tasks: tasks, symbiotic: symbiotic, services: services,
            devices: devices)
    }

    private static func longestFirst(_ left: Exit, _ right: Exit) -> Bool {
        if left.totalNanoseconds != right.totalNanoseconds { return left.totalNanoseconds > right.totalNanoseconds }
        if left.reason != right.reason { return left.reason < right.reason }
        if left.device != right.device { return left.device < right.device }
        return (left.address ?? 0) < (right.address ?? 0)
    }
}
