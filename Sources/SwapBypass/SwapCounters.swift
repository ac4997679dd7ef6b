// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The VMM's counters of SwapBypass. vCPU threads write them, any thread reads them.
final class SwapCounters: Sendable {
    let faults = Atomic<UInt64>(0)
    let declined = Atomic<UInt64>(0)
    let invalid = Atomic<UInt64>(0)
    let notResident = Atomic<UInt64>(0)
    let calls = Atomic<UInt64>(0)
    let failedCalls = Atomic<UInt64>(0)
    let pages = Atomic<UInt64>(0)
    let switches = Atomic<UInt64>(0)

    var all: [(name: String, value: UInt64)] {
        [
            ("faults", faults.load(ordering: .relaxed)),
            ("declined", declined.load(ordering: .relaxed)),
            ("declined_not_in_memory", notResident.load(ordering: .relaxed)),
            ("invalid_doorbells", invalid.load(ordering: .relaxed)),
            ("map_calls", calls.load(ordering: .relaxed)),
            ("map_calls_failed", failedCalls.load(ordering: .relaxed)),
            ("pages_mapped", pages.load(ordering: .relaxed)),
            ("switched", switches.load(ordering: .relaxed)),
        ]
    }

    /// Names of the guest's counters in the global page, by index (guest/include/symbiotic_swap.h, from SYMBIOTIC_SWAP_FAULTS).
    static let guestNames = [
        "guest_faults", "guest_hits", "guest_mapped", "guest_restored", "guest_fences", "guest_pins", "guest_not_exclusive", "guest_zero",
        "guest_clean", "guest_other_device", "guest_busy", "guest_invalidated", "guest_new_process", "guest_not_qualified",
        "guest_by_kernel", "guest_processes", "guest_flushes", "guest_no_memory", "guest_lost", "guest_not_held",
        "guest_region_limit", "guest_evicted", "guest_accessed",
    ]
}

extension Atomic where Value == UInt64 {
    /// Adds; a counter needs no ordering.
    func add(_ number: UInt64 = 1) {
        wrappingAdd(number, ordering: .relaxed)
    }
}
