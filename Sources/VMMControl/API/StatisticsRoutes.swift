// SPDX-License-Identifier: Apache-2.0

package import VMMAPI

internal import Synchronization
internal import VMMModel
internal import VMMPresentation

/// The routes for a machine's statistics.
///
///     GET /exit-statistics?vcpu=0&reason=pio_write&device=serial     `ExitReport`; each filter is optional
///     DELETE /exit-statistics                                         resets the counters
///     GET /metrics/openmetrics                                        all statistics for monitoring (docs/METRICS.md), in the form of `Accept`
///
/// The vCPUs run while a client reads. A reset does not change the recorders: these routes keep the report at the reset and subtract it in
/// GET /exit-statistics. OpenMetrics and the statistics file of `symvmm run` always count from the start.
package enum StatisticsRoutes {
    /// Creates the routes.
    package static func routes(for machine: any MachineControl) -> [APIRoute] {
        let zero = StatisticsZero()
        return [
            APIRoute(.get, "/exit-statistics", lane: .life) { request throws(APIError) in
                let filter = try Filter(request.query)
                return try .json(filter.apply(to: zero.subtracted(from: report(of: machine))))
            },
            APIRoute(.delete, "/exit-statistics", lane: .life) { _ throws(APIError) in
                zero.set(report(of: machine))
                return .noContent
            },
            APIRoute(.get, "/metrics/openmetrics", lane: .life) { request throws(APIError) in
                let form = MetricsForm(accept: request.accept, usual: .openMetrics)
                return APIResponse(contentType: form.contentType, body: Array(metrics(of: machine, form).utf8))
            },
        ]
    }

    private static func metrics(of machine: any MachineControl, _ form: MetricsForm) -> String {
        OpenMetricsExport(machine.exitStatistics(), machine.configuration, machine.state, form: form).render()
    }

    private static func report(of machine: any MachineControl) -> ExitReport {
        ExitReport(machine.exitStatistics(), name: machine.configuration.name)
    }

    /// The filter in a query.
    private struct Filter {
        var vcpu: Int?
        var reason: String?
        var device: String?

        init(_ query: [String: String]) throws(APIError) {
            for (key, value) in query.sorted(by: { $0.key < $1.key }) {
                switch key {
                case "vcpu":
                    guard let number = Int(value), (0..<MachineLimits.vcpuCount.upperBound).contains(number) else {
                        throw APIError(400, "vcpu: '\(value)' is not a vCPU number")
                    }
                    vcpu = number
                case "reason":
                    guard ExitReason.allCases.contains(where: { $0.description == value }) else {
                        let names = ExitReason.allCases.map(\.description).joined(separator: ", ")
                        throw APIError(400, "reason: '\(value)' is not a reason: give \(names)")
                    }
                    reason = value
                case "device": device = value
                default: throw APIError(400, "'\(key)' is not a filter: give vcpu, reason or device")
                }
            }
        }

        func apply(to report: ExitReport) -> ExitReport {
            report.filtered(vcpu: vcpu, reason: reason, device: device)
        }
    }
}

/// The report at the last reset.
private final class StatisticsZero: Sendable {
    private let report = Mutex<ExitReport?>(nil)

    func set(_ report: ExitReport) {
        self.report.withLock { $0 = report }
    }

    func subtracted(from report: ExitReport) -> ExitReport {
        self.report.withLock { $0 }.map(report.since) ?? report
    }
}
