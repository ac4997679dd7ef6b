// SPDX-License-Identifier: Apache-2.0

/// The result of a series of PINGs that a client requested: load for tests, and a measure of the guest's response rate.
package struct SymCallSeries: Codable, Sendable, Equatable {
    /// Maximum number of calls in one series.
    package static let countLimit = 100_000
    /// Maximum duration of a series in seconds, because a series occupies the API's worker thread.
    package static let secondLimit: UInt64 = 20

    /// Calls made.
    package var made = 0
    /// Calls that returned the values passed to them.
    package var answered = 0
    /// Calls that returned other values.
    package var wrong = 0
    /// Failed calls, by failure.
    package var refused: [String: Int] = [:]
    /// Nanoseconds from the start of the first call to the end of the last.
    package var nanoseconds: UInt64 = 0

    /// No calls yet.
    package init() {
    }

    enum CodingKeys: String, CodingKey {
        case made, answered, wrong, refused
        case nanoseconds = "total_ns"
    }
}
