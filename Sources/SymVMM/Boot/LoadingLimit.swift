// SPDX-License-Identifier: Apache-2.0

/// Stops the loading of a guest's files when the VM ends or after a time limit, because files may be large and storage slow.
public struct LoadingLimit: Sendable {
    /// Default time limit in seconds. The API's only worker thread waits for the loading.
    public static let seconds: UInt64 = 60
    /// Bytes that are read or cleared between two checks of the limit.
    static let pieceByteCount = 16 << 20

    /// Nanoseconds of CLOCK_MONOTONIC.
    private let deadline: UInt64
    private let isEnded: @Sendable () -> Bool

    /// Starts the time limit.
    ///
    /// - Parameters:
    ///   - seconds: maximum time for loading.
    ///   - isEnded: whether the VM is ending. Called often, on the loading thread.
    public init(seconds: UInt64 = LoadingLimit.seconds, isEnded: @escaping @Sendable () -> Bool = { false }) {
        deadline = TickClock.monotonicNanoseconds() &+ seconds &* 1_000_000_000
        self.isEnded = isEnded
    }

    func check(_ path: String) throws(VMMError) {
        if isEnded() { throw .loadingEnded(path: path) }
        if TickClock.monotonicNanoseconds() > deadline { throw .loadingTooSlow(path: path) }
    }
}
