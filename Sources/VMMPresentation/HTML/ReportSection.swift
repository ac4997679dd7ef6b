// SPDX-License-Identifier: Apache-2.0

package import VMMModel

/// A symbiotic service's part of the HTML report: a section, and events to mark in all charts.
package struct ReportSection: Sendable {
    /// The API resource with the service's state, and a function that makes a short text from its answer.
    package struct State: Sendable {
        /// Path of the resource to GET.
        package let path: String
        /// Decodes the answer's body to a short text; nil if it cannot.
        package let read: @Sendable ([UInt8]) -> String?

        /// Describes a state.
        package init(path: String, read: @escaping @Sendable ([UInt8]) -> String?) {
            self.path = path
            self.read = read
        }
    }

    /// Name of the service, as in the statistics.
    package let service: String
    /// The service's state; each change is an event.
    package let state: State?
    /// The event between two recorded samples; nil if there is none.
    package let event: @Sendable (ExitReport, ExitReport) -> String?
    /// The section's HTML; nil if there is nothing to show.
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

    /// Whether the report's VM has this service.
    package func isPart(of report: ExitReport) -> Bool {
        report.services?.contains { $0.name == service } == true
    }
}
