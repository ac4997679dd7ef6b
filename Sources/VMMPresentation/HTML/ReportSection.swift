// SPDX-License-Identifier: Apache-2.0

package import VMMModel

/// What a symbiotic service adds to the HTML report: a section, and the moments that are marked in all time lines.
package struct ReportSection: Sendable {
    /// The resource of the API that tells the service's state while the report's command watches it, and how to read its answer in a word or two.
    package struct State: Sendable {
        /// Resource to GET.
        package let path: String
        /// Reads the answer; nil when it makes no sense.
        package let read: @Sendable ([UInt8]) -> String?

        /// Describes a state.
        package init(path: String, read: @escaping @Sendable ([UInt8]) -> String?) {
            self.path = path
            self.read = read
        }
    }

    /// Name of the service, as in the statistics.
    package let service: String
    /// A change of it is an event.
    package let state: State?
    /// What happened between two recorded samples, in words; nil when nothing that matters.
    package let event: @Sendable (ExitReport, ExitReport) -> String?
    /// The section; nil when there is nothing to show.
    package let html: @Sendable (ReportTimeline) -> String?

    /// Describes a section.
    package init(
        service: String, state: State? = nil, event: @escaping @Sendable (ExitReport, ExitReport) -> String? = { _, _ in nil },
        html: @escaping @Sendable (ReportTimeline) -> String?
    ) {
        self.service = service
        self.state = state
        self.event = event
        self.html = html
    }

    /// Whether a report is of a VM with this service.
    package func isPart(of report: ExitReport) -> Bool {
        report.services?.contains { $0.name == service } == true
    }
}
