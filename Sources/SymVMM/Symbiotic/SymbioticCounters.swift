// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The counters of a VM's symbiotic interface. vCPU threads write them, any thread reads them. Exits without symcalls do not use them.
final class SymbioticCounters: Sendable {
    let completed = Atomic<UInt64>(0)
    let failed = Atomic<UInt64>(0)
    let faulted = Atomic<UInt64>(0)
    let timedOut = Atomic<UInt64>(0)
    let refused = Atomic<UInt64>(0)
    let refusedNested = Atomic<UInt64>(0)
    let deferred = Atomic<UInt64>(0)
    let doorbells = Atomic<UInt64>(0)
    let doorbellsIgnored = Atomic<UInt64>(0)
    let returnsIgnored = Atomic<UInt64>(0)
    let registrationsRefused = Atomic<UInt64>(0)
    let interruptsRaised = Atomic<UInt64>(0)
    let unanswered = Atomic<UInt64>(0)

    /// All counters with their stable names.
    var all: [(name: String, value: UInt64)] {
        [
            ("completed", completed.load(ordering: .relaxed)),
            ("failed", failed.load(ordering: .relaxed)),
            ("faulted", faulted.load(ordering: .relaxed)),
            ("timed_out", timedOut.load(ordering: .relaxed)),
            ("refused", refused.load(ordering: .relaxed)),
            ("refused_nested", refusedNested.load(ordering: .relaxed)),
            ("deferred", deferred.load(ordering: .relaxed)),
            ("doorbells", doorbells.load(ordering: .relaxed)),
            ("doorbells_ignored", doorbellsIgnored.load(ordering: .relaxed)),
            ("returns_ignored", returnsIgnored.load(ordering: .relaxed)),
            ("registrations_refused", registrationsRefused.load(ordering: .relaxed)),
            ("interrupts_raised", interruptsRaised.load(ordering: .relaxed)),
            ("unanswered", unanswered.load(ordering: .relaxed)),
        ]
    }
}

extension Atomic where Value == UInt64 {
    /// Adds one; a counter needs no ordering.
    func increment() {
        wrappingAdd(1, ordering: .relaxed)
    }
}
