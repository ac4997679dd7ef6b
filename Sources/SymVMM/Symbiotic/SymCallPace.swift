// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization

/// Spaces the symcalls that threads outside of the guest request, so that the guest has as much time as they take. Any thread.
///
/// The thread that makes the symcalls records how long they took. A thread that requests the next one first waits as long: this costs the vCPU nothing,
/// while a kick for a symcall that it does not make yet costs an exit.
struct SymCallPace: ~Copyable, Sendable {
    private let end = Atomic<UInt64>(0)
    private let duration = Atomic<UInt64>(0)

    /// Records symcalls, by the time stamp counter.
    func record(from started: UInt64, to ended: UInt64) {
        duration.store(ended &- started, ordering: .relaxed)
        end.store(ended, ordering: .releasing)
    }

    /// Ticks until the guest has had as much time as the last symcalls took.
    var remainingTicks: UInt64 {
        let since = ckvm_ticks() &- end.load(ordering: .acquiring)
        let duration = duration.load(ordering: .relaxed)
        return since < duration ? duration &- since : 0
    }
}
