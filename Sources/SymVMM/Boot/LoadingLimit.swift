// SPDX-License-Identifier: Apache-2.0

/// What ends the loading of a guest's files before it is done: the end of the VM, or too much time. Files may be long, and storage slow.
public struct LoadingLimit: Sendable {
    /// Seconds that loading may take: the API's only worker waits for it.
    public static let seconds: UInt64 = 60
    /// Bytes that are read or cleared between two looks at the limit.
    static let pieceByteCount = 16 << 20

    /// Nanoseconds of CLOCK_MONOTONIC.
    private let deadline: UInt64
    private let isEnded: @Sendable () -> Bool

    /// Begins to count the seconds.
    ///
    /// - Parameter isEnded: whether the VM is to end and loading is of no use any more; asked often, on the loading thread.
    public init(seconds: UInt64 = LoadingLimit.seconds, isEnded: @escaping @Sendable () -> Bool = { false }) {
        deadline = TickClock.monotonicNanoseconds() &+ seconds &* 1_000_000_000
        self.isEnded = isEnded
    }

    func check(_ path: String) throws(BootError) {
        if isEnded() { throw .loadingEnded(path: path) }
        if TickClock.monotonicNanoseconds() > deadline { throw .loadingTooSlow(path: path) }
    }
}
