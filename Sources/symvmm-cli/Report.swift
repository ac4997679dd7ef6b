// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMModel
internal import VMMPresentation
internal import VMMService

struct Report: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Write a VM's exits over a time as one HTML page.",
        discussion: """
            The command looks at the VM for --seconds and draws what happened in that time; nothing is kept in the VM's process for it.
            For a longer time, or after the end, keep the lines of stats --follow and give them with --from.

            Examples:
              symvmm report vm1 --output vm1.html --seconds 60
              symvmm stats vm1 --follow >vm1.lines; symvmm report --from vm1.lines --output vm1.html
            """)

    @Argument(
        help: "Name of a running VM, or the path of its control socket (with a slash).",
        completion: .custom { _, _, _ in RunningMachines.names() })
    var name: String?
    @Option(name: [.short, .long], help: ArgumentHelp("The page; - writes it to standard output.", valueName: "file"), completion: .file())
    var output: String
    @Option(help: ArgumentHelp("How long the VM is looked at.", valueName: "seconds"))
    var seconds: Double = 10
    @Option(help: ArgumentHelp("Take the lines of stats --follow from a file instead.", valueName: "file"), completion: .file())
    var from: String?

    /// Intervals that a page shows at most: more could not be told apart.
    private static let intervals = 240

    func validate() throws {
        if (name == nil) == (from == nil) { throw ValidationError("give either the name of a VM or --from FILE") }
        guard seconds >= 0, seconds <= 86_400 else { throw ValidationError("--seconds: give 0 (since the start, no time lines) to 86400") }
    }

    func run() throws {
        if output != "-" { try checkWritable() }
        let page = try from.map(recorded) ?? watched()
        let html = page.html
        if output == "-" { return Words.output(html) }
        do throws(KVMError) {
            try SmallFile.write(output, Array(html.utf8))
        } catch {
            throw ControlError.host("--output: \(error)")
        }
    }

    /// Said before a minute of looking.
    private func checkWritable() throws {
        let folder = output.lastIndex(of: "/").map { $0 == output.startIndex ? "/" : String(output[..<$0]) } ?? "."
        guard !output.hasSuffix("/"), unsafe access(folder, W_OK | X_OK) == 0 else {
            throw ControlError.usage("--output: cannot write in \(folder)")
        }
    }

    // MARK: A running VM

    private func watched() throws -> ReportPage {
        let client = APIClient()
        defer { client.stop() }
        let socket = try Target.socket(of: name ?? "")
        let statistics = StatisticsClient(socket: socket, client: client)
        var samples = [try statistics.report()]
        var events: [ReportTimeline.Event] = []
        let sections = try Services.registry().descriptors.compactMap(\.reportSection)
        var states = sections.map { state(of: $0, client, socket, samples[0]) }
        let settings = settings(client, socket)
        let step = max(seconds / Double(Report.intervals), 0.1)
        var interval = Interval(seconds: step)
        // By the clock: on a busy host a look may take longer than its interval.
        let end = ContinuousClock.now + .seconds(seconds > 0 ? max(seconds, step) - step / 2 : 0)
        while ContinuousClock.now < end {
            interval.wait()
            guard let sample = try statistics.reportUntilTheEnd() else { break }
            // After a reset the counts before it are of no use.
            if sample.resetNanoseconds != samples[0].resetNanoseconds { samples = [] }
            samples.append(sample)
            for (index, section) in sections.enumerated() {
                guard let now = state(of: section, client, socket, sample), now != states[index] else { continue }
                events.append(ReportTimeline.Event(uptimeNanoseconds: sample.uptimeNanoseconds, now))
                states[index] = now
            }
        }
        return try page(samples, events, [("Configuration", settings), ("Host", ReportFacts.host(.examine()))])
    }

    /// A service's state in words; nil for a VM without the service.
    private func state(of section: ReportSection, _ client: APIClient, _ socket: String, _ report: ExitReport) -> String? {
        guard let state = section.state, section.isPart(of: report),
            let body = try? client.perform(.get, state.path, socket: socket)
        else { return nil }
        return state.read(body)
    }

    private func settings(_ client: APIClient, _ socket: String) -> [(name: String, value: String)] {
        for resource in ["/vm/config", "/summary"] {
            if let body = try? client.perform(.get, resource, socket: socket) { return ReportFacts.rows(ofJSON: body) }
        }
        return []
    }

    // MARK: Lines of stats --follow

    private func recorded(_ path: String) throws -> ReportPage {
        let bytes: [UInt8]
        do throws(KVMError) {
            bytes = try SmallFile.read(path, atMost: 1 << 30)
        } catch {
            throw ControlError.usage("--from: \(error)")
        }
        var samples: [ExitReport] = []
        for (number, line) in bytes.split(separator: UInt8(ascii: "\n")).enumerated() {
            guard let sample = try? JSONText.decode(ExitReport.self, from: Array(line)) else {
                // The last line may have been cut off when its writer was ended.
                if number > 0, bytes.last != UInt8(ascii: "\n") { break }
                throw ControlError.usage("--from: \(path): line \(number + 1) is not a line of stats --follow")
            }
            if let last = samples.last, last.name != sample.name || last.uptimeNanoseconds > sample.uptimeNanoseconds {
                throw ControlError.usage("--from: \(path): line \(number + 1) is of another run than those before")
            }
            if sample.resetNanoseconds != samples.last?.resetNanoseconds { samples = [] }
            samples.append(sample)
        }
        let sections = try Services.registry().descriptors.compactMap(\.reportSection)
        let events = zip(samples, samples.dropFirst()).flatMap { before, after in
            sections.compactMap { $0.event(before, after) }.map { ReportTimeline.Event(uptimeNanoseconds: after.uptimeNanoseconds, $0) }
        }
        return try page(thinned(samples), events, [("Host that wrote this page", ReportFacts.host(.examine()))])
    }

    /// Fewer samples of the same time.
    private func thinned(_ samples: [ExitReport]) -> [ExitReport] {
        guard samples.count > Report.intervals + 1 else { return samples }
        return (0...Report.intervals).map { samples[$0 * (samples.count - 1) / Report.intervals] }
    }

    private func page(
        _ samples: [ExitReport], _ events: [ReportTimeline.Event], _ facts: [(title: String, rows: [(name: String, value: String)])]
    ) throws -> ReportPage {
        let sections = try Services.registry().descriptors.compactMap(\.reportSection)
        guard let page = ReportPage(samples, events: events, sections: sections, facts: facts) else {
            throw ControlError.usage("--from: there is no report in it")
        }
        return page
    }
}
