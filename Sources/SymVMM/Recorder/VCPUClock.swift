// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization
internal import VMMBase
internal import VMMModel

/// Where one vCPU's time goes outside of its exits: paused, serving other threads, and what the host's scheduler counts for its thread.
///
/// The vCPU's thread writes, at pauses and requests only, so it costs an exit nothing. Any thread reads.
final class VCPUClock: Sendable {
    private let use = ThreadUse()
    private let pauses = Mutex(Pauses())
    private let service = Atomic<UInt64>(0)
    private let blocked = Mutex(Blocked())

    /// Ticks in pauses. Under one lock, so that no reader counts a pause twice, or not at all, while it ends.
    private struct Pauses {
        /// In those that have ended.
        var ended: UInt64 = 0
        /// At the begin of the present one; nil if there is none.
        var begin: UInt64?

        /// Until a time, the present one included.
        func total(at now: UInt64) -> UInt64 {
            guard let begin, now > begin else { return ended }
            return ended &+ (now &- begin)
        }
    }

    /// Nanoseconds blocked inside KVM_RUN.
    private struct Blocked {
        /// Before the guest started the vCPU (SIPI).
        var unstarted: UInt64 = 0
        /// After that, and known to be no halt.
        var waited: UInt64 = 0
    }

    // MARK: The vCPU's thread

    /// Call it before the thread is confined: it opens files.
    func begin() {
        use.begin()
    }

    func end() {
        use.end()
    }

    func beginPause() {
        pauses.withLock { $0.begin = ckvm_ticks() }
    }

    func endPause() {
        pauses.withLock { pauses in
            pauses.ended = pauses.total(at: ckvm_ticks())
            pauses.begin = nil
        }
    }

    /// Adds time in user space for other threads' requests.
    func recordService(ticks: UInt64) {
        service.add(ticks, ordering: .relaxed)
    }

    // MARK: Any thread

    /// Ticks in pauses, the present one included.
    var pausedTicks: UInt64 {
        pauses.withLock { $0.total(at: ckvm_ticks()) }
    }

    /// The vCPU's time until now; nil before its thread began.
    ///
    /// - Parameters:
    ///   - exitNanoseconds: time handling exits in user space.
    ///   - kernel: KVM's counters, read after that time.
    ///   - scale: converts ticks to nanoseconds.
    func times(exitNanoseconds: UInt64, _ kernel: KernelStatistics, scale: (UInt64) -> UInt64) -> VCPUTimes? {
        let times = use.times
        guard times.wallNanoseconds > 0 else { return nil }
        func raw(wait: UInt64, pending: UInt64) -> VCPUTimes {
            VCPUTimes(
                wallNanoseconds: times.wallNanoseconds, pausedNanoseconds: scale(pausedTicks),
                serviceNanoseconds: scale(service.load(ordering: .relaxed)), runNanoseconds: times.runNanoseconds,
                delayNanoseconds: times.delayNanoseconds, pendingNanoseconds: pending, guestRunNanoseconds: times.guestNanoseconds,
                pollNanoseconds: (kernel["halt_poll_success_ns"] ?? 0) &+ (kernel["halt_poll_fail_ns"] ?? 0), waitNanoseconds: wait)
        }
        return blocked.withLock { known in
            guard let blocked = TimeBudget.blocked(raw(wait: 0, pending: 0), exitNanoseconds: exitNanoseconds) else {
                return raw(wait: 0, pending: 0)
            }
            if kernel["exits"] == 0 {
                known.unstarted = max(known.unstarted, blocked)
                return raw(wait: 0, pending: 0)
            }
            // KVM counts a halt at its end, and the scheduler a delay at its end. What neither counts is a delay if the thread is runnable, a halt if
            // the vCPU is halted, and else known to be neither.
            let counted = (kernel["halt_wait_ns"] ?? .max).addingReportingOverflow(known.unstarted)
            let rest = counted.overflow || blocked < counted.partialValue ? 0 : blocked &- counted.partialValue
            if times.isRunnable { return raw(wait: known.waited, pending: rest > known.waited ? rest &- known.waited : 0) }
            if kernel["blocking"] == 0 { known.waited = max(known.waited, rest) }
            return raw(wait: known.waited, pending: 0)
        }
    }
}
