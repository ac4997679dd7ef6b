// SPDX-License-Identifier: Apache-2.0

extension ExitReport {
    /// The time that the counts cover, in nanoseconds: since the start, the reset, or the subtracted report.
    public var countedNanoseconds: UInt64 {
        let start = resetNanoseconds ?? 0
        return uptimeNanoseconds > start ? uptimeNanoseconds &- start : 0
    }

    /// The difference from an earlier report of the same VM. Returns this report unchanged if the earlier one is of another run, or from before
    /// a reset.
    ///
    /// Minimum and maximum are exact only if they changed; otherwise they are bucket bounds, within 6 %.
    public func since(_ earlier: ExitReport) -> ExitReport {
        guard earlier.uptimeNanoseconds <= uptimeNanoseconds, earlier.resetNanoseconds == resetNanoseconds, earlier.name == name else {
            return self
        }
        return ExitReport(
            name: name, uptimeNanoseconds: uptimeNanoseconds, resetNanoseconds: earlier.uptimeNanoseconds,
            exits: exitsSince(earlier), vcpus: vcpusSince(earlier), tasks: tasksSince(earlier),
            symbiotic: symbiotic.map { ExitReport.since($0, earlier.symbiotic) },
            services: services.map { ExitReport.since($0, earlier.services ?? [], levels: true) },
            devices: devices.map { ExitReport.since($0, earlier.devices ?? [], levels: false) })
    }

    private struct Place: Hashable {
        let vcpu: Int?
        let reason: String
        let device: String
        let address: UInt64?
    }

    private func exitsSince(_ earlier: ExitReport) -> [Exit] {
        func place(_ row: Exit) -> Place { Place(vcpu: row.vcpu, reason: row.reason, device: row.device, address: row.address) }
        let before = Dictionary(earlier.exits.map { (place($0), $0.latency) }) { first, _ in first }
        return exits.compactMap { row in
            let latency = row.latency.since(before[place(row)] ?? .empty)
            guard latency.count > 0 else { return nil }
            return Exit(vcpu: row.vcpu, reason: row.reason, device: row.device, address: row.address, latency: latency)
        }
    }

    private func vcpusSince(_ earlier: ExitReport) -> [VCPU] {
        let before = Dictionary(earlier.vcpus.map { ($0.vcpu, $0) }) { first, _ in first }
        return vcpus.map { now in
            guard let then = before[now.vcpu] else { return now }
            let times = now.times.map { times in then.times.map { times.since($0) } ?? times }
            let exitNanoseconds = ExitReport.grown(now.exitNanosecondsOfBudget, then.exitNanosecondsOfBudget)
            return VCPU(
                vcpu: now.vcpu, exitCount: ExitReport.grown(now.exitCount, then.exitCount),
                guestNanoseconds: ExitReport.grown(now.guestNanoseconds, then.guestNanoseconds),
                vmmNanoseconds: ExitReport.grown(now.vmmNanoseconds, then.vmmNanoseconds),
                kernel: ExitReport.grown(now.kernel, then.kernel) { KernelStatistics.levels.contains($0) },
                times: times, budget: times.map { TimeBudget($0, exitNanoseconds: exitNanoseconds) })
        }
    }

    private func tasksSince(_ earlier: ExitReport) -> [Task] {
        struct Key: Hashable {
            let vcpu: Int?
            let tgid: UInt32?
            let startTime: UInt64?
            let reason: String
        }
        func key(_ row: Task) -> Key { Key(vcpu: row.vcpu, tgid: row.tgid, startTime: row.startTime, reason: row.reason) }
        let before = Dictionary(earlier.tasks.map { (key($0), $0) }) { first, _ in first }
        return tasks.compactMap { now in
            let then = before[key(now)]
            let count = ExitReport.grown(now.count, then?.count ?? 0)
            guard count > 0 else { return nil }
            return Task(
                vcpu: now.vcpu, tgid: now.tgid, startTime: now.startTime, name: now.name, reason: now.reason, count: count,
                totalNanoseconds: ExitReport.grown(now.totalNanoseconds, then?.totalNanoseconds ?? 0))
        }
    }

    private static func since(_ now: Symbiotic, _ then: Symbiotic?) -> Symbiotic {
        let before = Dictionary((then?.symcalls ?? []).map { ($0.number, $0.latency) }) { first, _ in first }
        return Symbiotic(
            active: now.active, unavailableReason: now.unavailableReason,
            counters: grown(now.counters, then?.counters ?? [:]) { _ in false },
            symcalls: now.symcalls.compactMap { call in
                let latency = call.latency.since(before[call.number] ?? .empty)
                return latency.count == 0 ? nil : SymCall(number: call.number, latency: latency)
            })
    }

    private static func since(_ now: [CounterGroup], _ then: [CounterGroup], levels: Bool) -> [CounterGroup] {
        let before = Dictionary(then.map { ($0.name, $0.counters) }) { first, _ in first }
        return now.map { part in
            CounterGroup(name: part.name, counters: grown(part.counters, before[part.name] ?? [:]) { levels && $0.hasSuffix("_bytes") })
        }
    }

    private static func grown(_ now: [String: UInt64], _ then: [String: UInt64], isLevel: (String) -> Bool) -> [String: UInt64] {
        Dictionary(now.map { ($0, isLevel($0) ? $1 : grown($1, then[$0] ?? 0)) }) { first, _ in first }
    }

    /// The growth of a counter; its value if it has become smaller, after a reset.
    private static func grown(_ now: UInt64, _ then: UInt64) -> UInt64 {
        now >= then ? now &- then : now
    }
}

extension LatencySummary {
    /// The durations since an earlier summary of the same row.
    package func since(_ earlier: LatencySummary) -> LatencySummary {
        guard earlier.count > 0 else { return self }
        var before = earlier.buckets[...]
        var grown: [Bucket] = []
        for bucket in buckets {
            while let first = before.first, first.upperBound < bucket.upperBound { before.removeFirst() }
            let then = before.first.flatMap { $0.upperBound == bucket.upperBound ? $0.count : nil } ?? 0
            guard bucket.count > then else { continue }
            grown.append(Bucket(upperBound: bucket.upperBound, count: bucket.count &- then))
        }
        guard let lowest = grown.first?.upperBound, let highest = grown.last?.upperBound else { return .empty }
        // A bucket is at most 1/16 of its bound wide.
        let least = minimum < earlier.minimum ? minimum : max(minimum, lowest &- lowest / 16)
        let most = maximum > earlier.maximum ? maximum : min(maximum, highest)
        return LatencySummary(
            total: total >= earlier.total ? total &- earlier.total : total, minimum: least, maximum: max(least, most), buckets: grown)
    }
}

extension ExitReport {
    /// Keeps the rows of one vCPU, reason or device, and recomputes the sums. Keeps statistics that have no such label. A device filter removes all
    /// rows of guest processes, because symvmm does not count those by device.
    public func filtered(vcpu: Int? = nil, reason: String? = nil, device: String? = nil) -> ExitReport {
        if vcpu == nil, reason == nil, device == nil { return self }
        let rows = exits.filter { row in
            (vcpu == nil || row.vcpu == vcpu) && (reason == nil || row.reason == reason) && (device == nil || row.device == device)
        }
        let filteredVCPUs = vcpus.filter { vcpu == nil || $0.vcpu == vcpu }.map { whole in
            let own = rows.filter { $0.vcpu == whole.vcpu }
            return VCPU(
                vcpu: whole.vcpu, exitCount: own.reduce(0) { $0 &+ $1.count }, guestNanoseconds: whole.guestNanoseconds,
                vmmNanoseconds: own.reduce(0) { $0 &+ $1.totalNanoseconds }, kernel: whole.kernel, times: whole.times, budget: whole.budget)
        }
        let processes = tasks.filter { (vcpu == nil || $0.vcpu == vcpu) && (reason == nil || $0.reason == reason) && device == nil }
        return ExitReport(
            name: name, uptimeNanoseconds: uptimeNanoseconds, resetNanoseconds: resetNanoseconds, exits: rows, vcpus: filteredVCPUs,
            tasks: processes, symbiotic: symbiotic, services: services, devices: devices)
    }
}
