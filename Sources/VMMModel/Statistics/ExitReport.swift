// SPDX-License-Identifier: Apache-2.0

/// Exit statistics as JSON: `--stats-file`, `GET /exit-statistics` and `symvmm stats --json`.
///
/// Field names are stable. Times are whole nanoseconds; their names end with `_ns`.
public struct ExitReport: Codable, Sendable, Equatable {
    /// Exits of one vCPU with the same reason, device and address. The latency's figures are members of the row: `exit.count`,
    /// `exit.totalNanoseconds`.
    @dynamicMemberLookup
    public struct Exit: Codable, Sendable, Equatable {
        /// Number of the vCPU; absent if the row covers all vCPUs.
        public let vcpu: Int?
        /// Name of the reason, as `ExitReason.description`.
        public let reason: String
        /// Name of the device; `none` if no device is at the address, empty if the reason has no device.
        public let device: String
        /// Port, guest-physical address or MSR; absent if the reason has none, or the recorder's table was full.
        public let address: UInt64?
        /// Durations from KVM_RUN's return to the next KVM_RUN.
        public let latency: LatencySummary

        enum CodingKeys: CodingKey {
            case vcpu, reason, device, address
        }

        /// Describes a row.
        package init(vcpu: Int?, reason: String, device: String, address: UInt64?, latency: LatencySummary) {
            self.vcpu = vcpu
            self.reason = reason
            self.device = device
            self.address = address
            self.latency = latency
        }

        /// Reads a row; the latency's fields are in the same object.
        public init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            vcpu = try container.decodeIfPresent(Int.self, forKey: .vcpu)
            reason = try container.decode(String.self, forKey: .reason)
            device = try container.decode(String.self, forKey: .device)
            address = try container.decodeIfPresent(UInt64.self, forKey: .address)
            latency = try LatencySummary(from: decoder)
        }

        /// Writes a row; the latency's fields are in the same object.
        public func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encodeIfPresent(vcpu, forKey: .vcpu)
            try container.encode(reason, forKey: .reason)
            try container.encode(device, forKey: .device)
            try container.encodeIfPresent(address, forKey: .address)
            try latency.encode(to: encoder)
        }

        /// A figure of the latency, in nanoseconds, or the count.
        public subscript(dynamicMember figure: KeyPath<LatencySummary, UInt64>) -> UInt64 {
            latency[keyPath: figure]
        }
    }

    /// Where one vCPU spent its time.
    public struct VCPU: Codable, Sendable, Equatable {
        /// Number of the vCPU.
        public let vcpu: Int
        /// Number of exits to user space.
        public let exitCount: UInt64
        /// Nanoseconds inside KVM_RUN: guest, kernel and halt time.
        public let guestNanoseconds: UInt64
        /// Nanoseconds spent handling exits in user space.
        public let vmmNanoseconds: UInt64
        /// KVM's own counters, by the kernel's names.
        public let kernel: [String: UInt64]
        /// What the time budget is made from; absent in reports of earlier builds, and before the vCPU's thread began.
        public let times: VCPUTimes?
        /// Where all of the vCPU's time went.
        public let budget: TimeBudget?

        enum CodingKeys: String, CodingKey {
            case vcpu, kernel, times, budget
            case exitCount = "exit_count"
            case guestNanoseconds = "guest_ns"
            case vmmNanoseconds = "vmm_ns"
        }

        /// Describes a vCPU.
        ///
        /// - Parameter budget: where the time went; nil to divide `times`.
        package init(
            vcpu: Int, exitCount: UInt64, guestNanoseconds: UInt64, vmmNanoseconds: UInt64, kernel: [String: UInt64],
            times: VCPUTimes? = nil, budget: TimeBudget? = nil
        ) {
            self.vcpu = vcpu
            self.exitCount = exitCount
            self.guestNanoseconds = guestNanoseconds
            self.vmmNanoseconds = vmmNanoseconds
            self.kernel = kernel
            self.times = times
            self.budget = budget ?? times.map { TimeBudget($0, exitNanoseconds: vmmNanoseconds) }
        }

        /// Handling exits in user space, as the budget has it: a filtered report's `vmmNanoseconds` has the exits of its rows only.
        var exitNanosecondsOfBudget: UInt64 {
            let own = budget?[.vmm] ?? 0
            let service = times?.serviceNanoseconds ?? 0
            return max(vmmNanoseconds, own > service ? own &- service : 0)
        }

        /// Exits that KVM handled in the kernel; nil if the kernel does not count its exits.
        package var inKernelExits: UInt64? {
            kernel["exits"].map { $0 > exitCount ? $0 &- exitCount : 0 }
        }
    }

    /// Exits with the same reason during one guest process.
    public struct Task: Codable, Sendable, Equatable {
        /// Number of the vCPU; absent if the row covers all vCPUs.
        public let vcpu: Int?
        /// Process ID in the guest; absent for the row that counts all further processes when the recorder's table is full.
        public let tgid: UInt32?
        /// Start time of the process in nanoseconds since the guest's boot, as reported by the guest; absent if unknown. With the process ID it
        /// identifies a process, since IDs are reused.
        public let startTime: UInt64?
        /// The task's name, as reported by the guest.
        public let name: String
        /// Name of the reason.
        public let reason: String
        /// Number of exits.
        public let count: UInt64
        /// Sum of the durations in nanoseconds, from KVM_RUN's return to the next KVM_RUN.
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

    /// Statistics of the symbiotic interface.
    public struct Symbiotic: Codable, Sendable, Equatable {
        /// Whether symcalls can be made now.
        public let active: Bool
        /// Why not; absent if they can.
        public let unavailableReason: String?
        /// Counters by name.
        public let counters: [String: UInt64]
        /// Symcalls by number.
        public let symcalls: [SymCall]

        enum CodingKeys: String, CodingKey {
            case active
            case unavailableReason = "unavailable_reason"
            case counters, symcalls
        }
    }

    /// Symcalls of one number on all vCPUs. The latency's figures are members of the row: `call.count`, `call.p99Nanoseconds`.
    @dynamicMemberLookup
    public struct SymCall: Codable, Sendable, Equatable {
        /// Number of the symcall (docs/ABI.md, 4.4).
        public let number: UInt32
        /// Durations from the symcall's injection to the restored vCPU state.
        public let latency: LatencySummary

        enum CodingKeys: CodingKey {
            case number
        }

        /// Describes a row.
        package init(number: UInt32, latency: LatencySummary) {
            self.number = number
            self.latency = latency
        }

        /// Reads a row; the latency's fields are in the same object.
        public init(from decoder: any Decoder) throws {
            number = try decoder.container(keyedBy: CodingKeys.self).decode(UInt32.self, forKey: .number)
            latency = try LatencySummary(from: decoder)
        }

        /// Writes a row; the latency's fields are in the same object.
        public func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(number, forKey: .number)
            try latency.encode(to: encoder)
        }

        /// A figure of the latency, in nanoseconds, or the count.
        public subscript(dynamicMember figure: KeyPath<LatencySummary, UInt64>) -> UInt64 {
            latency[keyPath: figure]
        }
    }

    /// Counters of a symbiotic service or a virtio device.
    public struct CounterGroup: Codable, Sendable, Equatable {
        /// The service's or the device's name.
        public let name: String
        /// Its counters.
        public let counters: [String: UInt64]
    }

    /// Version of the format: 1. Later releases may add fields within a version.
    public let version: Int
    /// The VM's name.
    public let name: String
    /// Nanoseconds since the machine was built.
    public let uptimeNanoseconds: UInt64
    /// Uptime at which counting started, in nanoseconds; absent if the counts are since the VM's start.
    public let resetNanoseconds: UInt64?
    /// Number of exits to user space: the sum over the rows.
    public let exitCount: UInt64
    /// The exits, grouped by vCPU, reason, device and address.
    public let exits: [Exit]
    /// One for each vCPU.
    public let vcpus: [VCPU]
    /// Exits by guest process; empty for a guest without the symbiotic module.
    public let tasks: [Task]
    /// The symbiotic interface; absent if symvmm does not offer it to the guest.
    public let symbiotic: Symbiotic?
    /// The symbiotic services; absent if there are none.
    public let services: [CounterGroup]?
    /// The virtio devices; absent if there are none.
    public let devices: [CounterGroup]?

    enum CodingKeys: String, CodingKey {
        case version, name, exits, vcpus, tasks, symbiotic, services, devices
        case uptimeNanoseconds = "uptime_ns"
        case resetNanoseconds = "reset_ns"
        case exitCount = "exit_count"
    }

    /// Creates the report of a snapshot. Counts since the VM's start.
    public init(_ statistics: ExitStatistics, name: String) {
        self.init(
            name: name, uptimeNanoseconds: statistics.uptimeNanoseconds,
            exits: statistics.rows.map {
                Exit(vcpu: $0.vcpu, reason: $0.reason.description, device: $0.device, address: $0.address, latency: $0.latency)
            },
            vcpus: statistics.vcpus.map { processor in
                let rows = statistics.rows.filter { $0.vcpu == processor.vcpu }
                return VCPU(
                    vcpu: processor.vcpu, exitCount: rows.reduce(0) { $0 &+ $1.latency.count },
                    guestNanoseconds: processor.guestNanoseconds, vmmNanoseconds: processor.vmmNanoseconds,
                    kernel: Dictionary(processor.kernel.counters.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first }),
                    times: processor.times)
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

    /// Creates a report of its parts.
    package init(
        name: String, uptimeNanoseconds: UInt64, resetNanoseconds: UInt64? = nil, exits: [Exit], vcpus: [VCPU], tasks: [Task] = [],
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

    /// Adds up the rows of all vCPUs, and sorts them by total time in descending order.
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
