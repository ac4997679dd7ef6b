// SPDX-License-Identifier: Apache-2.0

package import VMMModel

/// Samples of one VM over a time, and what is drawn of them.
package struct ReportTimeline: Sendable {
    /// A moment that is worth a mark in the time lines.
    package struct Event: Sendable {
        let uptimeNanoseconds: UInt64
        let words: String

        /// Something that was so from this uptime on.
        package init(uptimeNanoseconds: UInt64, _ words: String) {
            self.uptimeNanoseconds = uptimeNanoseconds
            self.words = words
        }
    }

    /// In their order, none of which was reset in between.
    package let samples: [ExitReport]
    /// What happened from the first sample to the last; with one sample, since the start.
    package let whole: ExitReport
    private let events: [Event]

    /// nil when there is no sample.
    package init?(_ samples: [ExitReport], events: [Event]) {
        guard let first = samples.first, let last = samples.last else { return nil }
        self.samples = samples
        whole = samples.count > 1 ? last.since(first) : last
        self.events = events
    }

    /// Uptime of each sample in seconds.
    package var moments: [Double] { samples.map { Double($0.uptimeNanoseconds) / 1e9 } }

    /// What happened between each sample and the next.
    package var intervals: [ExitReport] { zip(samples, samples.dropFirst()).map { $1.since($0) } }

    /// The events as marks of a chart.
    package var marks: [TimeChart.Mark] {
        events.map { TimeChart.Mark(seconds: Double($0.uptimeNanoseconds) / 1e9, words: $0.words) }
    }

    /// How often something happened a second in each interval.
    package func rates(_ name: String, _ count: (ExitReport) -> UInt64) -> TimeChart.Series {
        TimeChart.Series(
            name: name,
            values: intervals.map { $0.countedNanoseconds == 0 ? 0 : Double(count($0)) * 1e9 / Double($0.countedNanoseconds) })
    }
}
