// SPDX-License-Identifier: Apache-2.0

/// What is known about a vCPU's time, in nanoseconds since its thread began: the source of its `TimeBudget`.
public struct VCPUTimes: Codable, Sendable, Equatable {
    /// All of it.
    public let wallNanoseconds: UInt64
    /// Paused.
    public let pausedNanoseconds: UInt64
    /// In user space, serving requests of other threads, such as symcalls; without the time in the guest for them.
    public let serviceNanoseconds: UInt64
    /// On a processor (proc(5), schedstat); nil if the host does not tell.
    public let runNanoseconds: UInt64?
    /// Runnable, while other threads had the processors (proc(5), schedstat); nil if the host does not tell.
    public let delayNanoseconds: UInt64?
    /// The part of the present wait for a processor, which the scheduler adds to `delayNanoseconds` at its end. May decrease.
    public let pendingNanoseconds: UInt64
    /// On a processor in the guest. The kernel samples it at timer ticks (proc(5), stat); nil if the host does not tell.
    public let guestRunNanoseconds: UInt64?
    /// On a processor, polling for the end of a halt (KVM's `halt_poll_success_ns` and `halt_poll_fail_ns`).
    public let pollNanoseconds: UInt64
    /// Blocked inside KVM_RUN, but not in a halt, as far as is known: KVM counts a halt at its end only.
    public let waitNanoseconds: UInt64

    enum CodingKeys: String, CodingKey {
        case wallNanoseconds = "wall_ns"
        case pausedNanoseconds = "paused_ns"
        case serviceNanoseconds = "service_ns"
        case runNanoseconds = "run_ns"
        case delayNanoseconds = "delay_ns"
        case pendingNanoseconds = "pending_ns"
        case guestRunNanoseconds = "guest_run_ns"
        case pollNanoseconds = "poll_ns"
        case waitNanoseconds = "wait_ns"
    }

    /// Describes a vCPU's time.
    package init(
        wallNanoseconds: UInt64, pausedNanoseconds: UInt64 = 0, serviceNanoseconds: UInt64 = 0, runNanoseconds: UInt64? = nil,
        delayNanoseconds: UInt64? = nil, pendingNanoseconds: UInt64 = 0, guestRunNanoseconds: UInt64? = nil, pollNanoseconds: UInt64 = 0,
        waitNanoseconds: UInt64 = 0
    ) {
        self.wallNanoseconds = wallNanoseconds
        self.pausedNanoseconds = pausedNanoseconds
        self.serviceNanoseconds = serviceNanoseconds
        self.runNanoseconds = runNanoseconds
        self.delayNanoseconds = delayNanoseconds
        self.pendingNanoseconds = pendingNanoseconds
        self.guestRunNanoseconds = guestRunNanoseconds
        self.pollNanoseconds = pollNanoseconds
        self.waitNanoseconds = waitNanoseconds
    }

    /// The kinds of time that are known, with names as in JSON.
    package var kinds: [(name: String, nanoseconds: UInt64)] {
        let all: [(String, UInt64?)] = [
            ("wall", wallNanoseconds), ("paused", pausedNanoseconds), ("service", serviceNanoseconds), ("run", runNanoseconds),
            ("delay", delayNanoseconds), ("guest_run", guestRunNanoseconds), ("poll", pollNanoseconds), ("wait", waitNanoseconds),
        ]
        return all.compactMap { name, time in time.map { (name, $0) } }
    }

    /// The time since an earlier reading of the same vCPU.
    package func since(_ earlier: VCPUTimes) -> VCPUTimes {
        func grown(_ now: UInt64, _ then: UInt64) -> UInt64 { now > then ? now &- then : 0 }
        func grown(_ now: UInt64?, _ then: UInt64?) -> UInt64? { now.map { grown($0, then ?? 0) } }
        return VCPUTimes(
            wallNanoseconds: grown(wallNanoseconds, earlier.wallNanoseconds),
            pausedNanoseconds: grown(pausedNanoseconds, earlier.pausedNanoseconds),
            serviceNanoseconds: grown(serviceNanoseconds, earlier.serviceNanoseconds),
            runNanoseconds: grown(runNanoseconds, earlier.runNanoseconds), delayNanoseconds: grown(wholeDelay, earlier.wholeDelay),
            guestRunNanoseconds: grown(guestRunNanoseconds, earlier.guestRunNanoseconds),
            pollNanoseconds: grown(pollNanoseconds, earlier.pollNanoseconds),
            waitNanoseconds: grown(waitNanoseconds, earlier.waitNanoseconds))
    }

    /// Runnable, the present wait for a processor included; nil if the host does not tell.
    var wholeDelay: UInt64? {
        delayNanoseconds.map { delay in
            let (sum, overflow) = delay.addingReportingOverflow(pendingNanoseconds)
            return overflow ? .max : sum
        }
    }
}

/// Where all of a vCPU's time went. The parts add up to the whole; see docs/METRICS.md for how each is known.
public struct TimeBudget: Codable, Sendable, Equatable {
    /// A part of the time.
    public enum Part: String, Codable, Sendable, CaseIterable {
        /// The guest ran.
        case guest
        /// The host's kernel worked for the guest inside KVM_RUN: exits that KVM handles, page faults, interrupts.
        case kvm
        /// symvmm handled exits and requests.
        case vmm
        /// The guest had nothing to do (HLT), or had not started the vCPU; KVM waited or polled.
        case halted
        /// Runnable inside KVM_RUN, but other threads of the host had the processors.
        case stolen
        /// Blocked inside KVM_RUN for another reason: mostly the host's memory.
        case waiting
        /// The VM was paused.
        case paused
    }

    /// Nanoseconds of all parts together.
    public let wallNanoseconds: UInt64
    /// Nanoseconds of each part; a part that cannot be told is missing and included in another one.
    public let parts: [Part: UInt64]
    /// The parts that are estimated.
    public let estimated: [Part]

    /// Divides a vCPU's time.
    ///
    /// - Parameters:
    ///   - times: what the vCPU's thread and the host's scheduler have counted.
    ///   - exitNanoseconds: handling exits in user space.
    package init(_ times: VCPUTimes, exitNanoseconds: UInt64) {
        wallNanoseconds = times.wallNanoseconds
        var left = times.wallNanoseconds
        /// Moves time out of what is left.
        func take(_ amount: UInt64) -> UInt64 {
            let taken = min(amount, left)
            left -= taken
            return taken
        }
        var parts: [Part: UInt64] = [:]
        let vmm = exitNanoseconds.addingReportingOverflow(times.serviceNanoseconds)
        parts[.paused] = take(times.pausedNanoseconds)
        let own = take(vmm.overflow ? .max : vmm.partialValue)
        parts[.vmm] = own
        // The rest is inside KVM_RUN. Without the scheduler's counts, it cannot be divided.
        guard let run = times.runNanoseconds else {
            parts[.guest] = left
            self.parts = parts
            estimated = []
            return
        }
        // symvmm seldom blocks while it handles an exit, so its time counts as time on a processor.
        let polled = take(times.pollNanoseconds)
        let taken = own.addingReportingOverflow(polled)
        let working = take(taken.overflow || run < taken.partialValue ? 0 : run &- taken.partialValue)
        parts[.stolen] = times.wholeDelay.map(take)
        // What is left is blocked.
        parts[.waiting] = take(times.waitNanoseconds)
        parts[.halted] = polled &+ left
        let guest = min(times.guestRunNanoseconds ?? working, working)
        parts[.guest] = guest
        if times.guestRunNanoseconds != nil { parts[.kvm] = working &- guest }
        self.parts = parts
        estimated = [.guest, .kvm, .stolen, .waiting].filter { parts[$0] != nil }
    }

    /// Time blocked inside KVM_RUN until now: neither on a processor, nor runnable, nor outside of KVM_RUN. Nil if the host does not tell.
    package static func blocked(_ times: VCPUTimes, exitNanoseconds: UInt64) -> UInt64? {
        guard times.runNanoseconds != nil else { return nil }
        let budget = TimeBudget(times, exitNanoseconds: exitNanoseconds)
        return budget[.waiting] &+ budget[.halted] &- min(times.pollNanoseconds, budget[.halted])
    }

    /// The sum of two budgets.
    package func adding(_ other: TimeBudget) -> TimeBudget {
        TimeBudget(
            wallNanoseconds: wallNanoseconds &+ other.wallNanoseconds, parts: parts.merging(other.parts) { $0 &+ $1 },
            estimated: Part.allCases.filter { estimated.contains($0) || other.estimated.contains($0) })
    }

    private init(wallNanoseconds: UInt64, parts: [Part: UInt64], estimated: [Part]) {
        self.wallNanoseconds = wallNanoseconds
        self.parts = parts
        self.estimated = estimated
    }

    /// Nanoseconds of a part; 0 if it cannot be told.
    public subscript(part: Part) -> UInt64 {
        parts[part] ?? 0
    }

    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Reads `{"wall_ns": N, "guest_ns": N, ..., "estimated": ["guest", ...]}`.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        wallNanoseconds = try container.decode(UInt64.self, forKey: Key(stringValue: "wall_ns"))
        estimated = try container.decode([Part].self, forKey: Key(stringValue: "estimated"))
        var parts: [Part: UInt64] = [:]
        for part in Part.allCases {
            parts[part] = try container.decodeIfPresent(UInt64.self, forKey: Key(stringValue: part.rawValue + "_ns"))
        }
        self.parts = parts
    }

    /// Writes what `init(from:)` reads.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(wallNanoseconds, forKey: Key(stringValue: "wall_ns"))
        for part in Part.allCases { try container.encodeIfPresent(parts[part], forKey: Key(stringValue: part.rawValue + "_ns")) }
        try container.encode(estimated, forKey: Key(stringValue: "estimated"))
    }
}
