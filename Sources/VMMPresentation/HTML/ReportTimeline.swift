// SPDX-License-Identifier: Apache-2.0

package import VMMModel

/// Samples of one VM over time, and the series drawn from them.
package struct ReportTimeline: Sendable {
    /// An event to mark in the charts.
    package struct Event: Sendable {
        let uptimeNanoseconds: UInt64
        let label: String

        /// Creates an event at an uptime.
        package init(uptimeNanoseconds: UInt64, _ label: String) {
            self.uptimeNanoseconds = uptimeNanoseconds
            self.label = label
        }
    }

    /// The samples in order, without a reset between them.
    package let samples: [ExitReport]
    /// The difference between the first and the last sample; with one sample, that sample.
    package let whole: ExitReport
    private let events: [Event]

    /// Returns nil without samples.
    package init?(_ samples: [ExitReport], events: [Event]) {
        guard let first = samples.first, let last = samples.last else { return nil }
        self.samples = samples
        whole = samples.count > 1 ? last.since(first) : last
        self.events = events
    }

    /// Uptime of each sample in seconds.
    package var moments: [Double] { samples.map { Double($0.uptimeNanoseconds) / 1e9 } }

    /// The difference between each sample and the next.
    package var intervals: [ExitReport] { zip(samples, samples.dropFirst()).map { $1.since($0) } }

    /// The events as chart marks.
    package var marks: [TimeChart.Mark] {
        events.map { TimeChart.Mark(seconds: Double($0.uptimeNanoseconds) / 1e9, label: $0.label) }
    }

    /// The rate of a counter in each interval, per second. `count` returns the counter of an interval's report.
    package func rates(_ name: String, _ count: (ExitReport) -> UInt64) -> TimeChart.Series {
        TimeChart.Series(
            name: name,
            values: intervals.map { $0.countedNanoseconds == 0 ? 0 : Double(count($0)) * 1e9 / Double($0.countedNanoseconds) })
    }
}
