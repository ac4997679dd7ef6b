// SPDX-License-Identifier: Apache-2.0

/// What became of many PINGs, made one after the other from outside: a load for tests, and the rate at which the guest answers.
public struct SymCallSeries: Codable, Sendable, Equatable {
    /// Most calls of one series.
    public static let countLimit = 100_000
    /// Seconds after which a series ends, whatever is left of it: others wait to ask something, too.
    package static let secondLimit: UInt64 = 20

    /// Calls made.
    public package(set) var made = 0
    /// Calls that came back with the values they were given.
    public package(set) var answered = 0
    /// Calls that came back with others.
    public package(set) var wrong = 0
    /// Calls that did not come back, by what was said instead.
    public package(set) var refused: [String: Int] = [:]
    /// Nanoseconds from the first to the last.
    public package(set) var nanoseconds: UInt64 = 0

    /// Nothing made yet.
    package init() {
    }

    enum CodingKeys: String, CodingKey {
        case made, answered, wrong, refused
        case nanoseconds = "total_ns"
    }
}
