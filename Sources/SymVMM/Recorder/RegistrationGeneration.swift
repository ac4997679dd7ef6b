// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Counts how often the guest has dropped its registration. Registrations of an earlier generation are invalid. Any thread.
final class RegistrationGeneration: Sendable {
    private let number = Atomic<UInt64>(1)

    /// The current generation.
    @inline(__always)
    var current: UInt64 {
        number.load(ordering: .acquiring)
    }

    /// Starts the next generation.
    func advance() {
        number.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }
}
