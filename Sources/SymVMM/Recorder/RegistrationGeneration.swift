// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Counts how often the guest has dropped all that it had registered. What was registered in an earlier generation counts as never made. Any thread.
final class RegistrationGeneration: Sendable {
    private let number = Atomic<UInt64>(1)

    /// The present generation.
    @inline(__always)
    var current: UInt64 {
        number.load(ordering: .acquiring)
    }

    /// Begins the next one.
    func advance() {
        number.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }
}
