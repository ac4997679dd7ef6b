// SPDX-License-Identifier: Apache-2.0

package import VMMAPI

internal import Synchronization
internal import VMMBase
internal import VMMClient
internal import VMMPresentation

/// `symvmm exporter`: collects the metrics of all VMs when a client asks, and serves them as one text. Thread-safe.
///
/// VMs' processes and clients may be hostile. A collection takes no longer than the collector's timeout; what it costs does not depend on how often
/// clients ask, since requests within `freshness` get the same samples.
package final class Exporter: Sendable {
    /// Finds the VMs and asks them.
    typealias Collect = () throws(VMMError) -> (machines: [MetricsCollector.Found], surplus: Int)

    /// The resource of a VM that has its metrics, and the header `Accept` of a request for it.
    private static let resource = "/metrics/openmetrics"
    static let accept = "application/openmetrics-text; version=1.0.0"

    private struct State {
        let collect: Collect
        var text: ExporterText?
        /// When the text was made, in nanoseconds of CLOCK_MONOTONIC.
        var moment: UInt64 = 0
        var leftOut: [ExporterText.LeftOut: UInt64] = [:]
        var collectionCount: UInt64 = 0
    }

    private let state: Mutex<State>
    private let freshness: UInt64

    /// Creates an exporter of all running VMs of this user. Its routes collect one at a time.
    ///
    /// - Parameters:
    ///   - patterns: sockets of further VMs, as shell patterns (glob(7)).
    ///   - timeout: seconds for the VMs to answer.
    package convenience init(patterns: [String], timeout: Int64) {
        let collector = MetricsCollector(patterns: patterns, timeout: timeout)
        self.init { () throws(VMMError) in try collector.collect(Exporter.resource, accept: Exporter.accept) }
    }

    /// - Parameters:
    ///   - freshness: nanoseconds for which samples are served again.
    ///   - collect: finds the VMs and asks them.
    init(freshness: UInt64 = 1_000_000_000, collect: sending @escaping Collect) {
        self.freshness = freshness
        state = Mutex(State(collect: collect))
    }

    /// GET /metrics, and GET / with the same answer.
    package var routes: [APIRoute] {
        ["/metrics", "/"].map { pattern in
            APIRoute(.get, pattern) { request throws(APIError) in
                let form = MetricsForm(accept: request.accept, usual: .prometheus)
                do throws(VMMError) {
                    return APIResponse(contentType: form.contentType, body: Array(try self.text().render(form).utf8))
                } catch {
                    throw APIError(500, error.description)
                }
            }
        }
    }

    /// The samples of all VMs: those of the last collection if it is recent enough.
    private func text() throws(VMMError) -> ExporterText {
        try state.withLock { state throws(VMMError) in
            let start = TickClock.monotonicNanoseconds()
            if let text = state.text, start &- state.moment < freshness { return text }
            let (found, surplus) = try state.collect()
            let machines = Exporter.machines(found, surplus, &state.leftOut)
            let end = TickClock.monotonicNanoseconds()
            state.collectionCount &+= 1
            let text = ExporterText(
                machines: machines, leftOut: state.leftOut, collectionCount: state.collectionCount, collectionNanoseconds: end &- start)
            state.text = text
            state.moment = end
            return text
        }
    }

    /// Checks the answers, and counts the VMs that are left out.
    private static func machines(
        _ found: [MetricsCollector.Found], _ surplus: Int, _ leftOut: inout [ExporterText.LeftOut: UInt64]
    ) -> [ExporterText.Machine] {
        var names: Set<String> = []
        var machines: [ExporterText.Machine] = []
        if surplus > 0 { leftOut[.tooMany, default: 0] &+= UInt64(surplus) }
        for machine in found {
            // The name of a file.
            guard !machine.name.isEmpty, machine.name.utf8.count <= 64, machine.name == machine.name.printable else {
                leftOut[.invalid, default: 0] &+= 1
                continue
            }
            guard names.insert(machine.name).inserted else {
                leftOut[.sameName, default: 0] &+= 1
                continue
            }
            switch metrics(of: machine) {
            case .success(let metrics): machines.append(ExporterText.Machine(name: machine.name, metrics: metrics))
            case .failure(let reason):
                leftOut[reason, default: 0] &+= 1
                machines.append(ExporterText.Machine(name: machine.name, metrics: nil))
            }
        }
        return machines
    }

    private static func metrics(of machine: MetricsCollector.Found) -> Result<ScrapedMetrics, ExporterText.LeftOut> {
        switch machine.answer {
        case .text(let bytes):
            guard let metrics = try? ScrapedMetrics(bytes, vm: machine.name) else { return .failure(.invalid) }
            return .success(metrics)
        case .stopped: return .failure(.stopped)
        case .silent: return .failure(.noAnswer)
        case .refused: return .failure(.invalid)
        case .tooLong: return .failure(.tooLong)
        }
    }
}
