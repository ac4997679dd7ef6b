// SPDX-License-Identifier: Apache-2.0

/// Keeps evenly spaced samples of a series of any length: the first, the last, and between them at most twice as many as asked for.
///
/// When there are too many, it drops every second one and from then on takes only every second of those that arrive. So memory is bounded.
package struct EvenSamples<Sample> {
    private let intervals: Int
    private let byteLimit: Int
    private var kept: [(sample: Sample, byteCount: Int)] = []
    private var byteCount = 0
    /// The newest sample, unless it is among `kept`.
    private var newest: Sample?
    private var stride = 1
    private var arrived = 0

    /// Creates an empty series.
    ///
    /// - Parameters:
    ///   - intervals: most intervals between the samples that `samples` returns.
    ///   - byteLimit: about the most bytes of samples to keep, but never fewer than three samples.
    package init(intervals: Int, byteLimit: Int) {
        self.intervals = intervals
        self.byteLimit = byteLimit
    }

    /// Adds a sample; `byteCount` is about its size.
    package mutating func add(_ sample: Sample, byteCount size: Int) {
        defer { arrived += 1 }
        newest = sample
        guard arrived % stride == 0 else { return }
        newest = nil
        kept.append((sample, size))
        byteCount += size
        while kept.count > 2 * intervals + 1 || (byteCount > byteLimit && kept.count > 2) {
            // The newest of an even number would be dropped.
            if kept.count % 2 == 0 { newest = kept.last?.sample }
            kept = kept.enumerated().compactMap { $0 % 2 == 0 ? $1 : nil }
            byteCount = kept.reduce(0) { $0 + $1.byteCount }
            stride *= 2
        }
    }

    /// Evenly spaced samples, including the first and the last.
    package var samples: [Sample] {
        let all = kept.map { $0.sample } + (newest.map { [$0] } ?? [])
        guard all.count > intervals + 1 else { return all }
        return (0...intervals).map { all[$0 * (all.count - 1) / intervals] }
    }
}
