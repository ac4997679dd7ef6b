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
        commandName: "report", abstract: "Write an HTML report of a VM's exits over time.",
        discussion: """
            The command samples the VM for --seconds; the VM's process keeps no history. For a longer time, or for a VM that has ended, record the
            lines of stats --follow and pass them with --from.

            Examples:
              symvmm report vm1 --output vm1.html --seconds 60
              symvmm stats vm1 --follow >vm1.lines; symvmm report --from vm1.lines --output vm1.html
            """)

    @Argument(
        help: "Name of a running VM, or the path of its control socket (with a slash).",
        completion: .custom { _, _, _ in RunningMachines.names() })
    var name: String?
    @Option(name: [.short, .long], help: ArgumentHelp("Output file; - for standard output.", valueName: "file"), completion: .file())
    var output: String
    @Option(parsing: .unconditional, help: ArgumentHelp("Sampling time.", valueName: "seconds"))
    var seconds: Double = 10
    @Option(help: ArgumentHelp("Read recorded lines of stats --follow instead.", valueName: "file"), completion: .file())
    var from: String?

    /// Maximum number of intervals in a chart: more would be too narrow to see.
    private static let intervals = 240

    func validate() throws {
        if (name == nil) == (from == nil) { throw ValidationError("give either a VM name or --from FILE") }
        guard seconds >= 0, seconds <= 86_400 else { throw ValidationError("--seconds: give 0 (one sample, no charts over time) to 86400") }
    }

    func run() throws {
        if output != "-" { try checkWritable() }
        let page = try from.map(recorded) ?? watched()
        let html = page.html
        if output == "-" { return Terminal.output(html) }
        do throws(VMMError) {
            try SmallFile.write(output, Array(html.utf8))
        } catch {
            throw error.of("--output", .host)
        }
    }

    /// Throws an error for an unwritable path, before sampling starts.
    private func checkWritable() throws {
        let folder = output.folderPath
        // SAFETY: the string lives for the call.
        guard !output.fileName.isEmpty, unsafe access(folder, W_OK | X_OK) == 0 else {
            throw VMMError.user("--output: cannot write in \(folder)")
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
        // Use the clock: on a busy host a sample may take longer than its interval.
        let end = ContinuousClock.now + .seconds(seconds > 0 ? max(seconds, step) - step / 2 : 0)
        while ContinuousClock.now < end {
            interval.wait()
            guard let sample = try statistics.reportUntilTheEnd() else { break }
            // Discard samples from before a reset.
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

    /// A service's state as text; nil if the VM does not have the service.
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

    /// Most bytes of a line, and of the lines whose samples are kept at the same time.
    private static let lineLimit = 16 << 20
    private static let sampleLimit = 64 << 20
    /// Most events that are marked; more would cover each other.
    private static let eventLimit = 200

    private func recorded(_ path: String) throws -> ReportPage {
        let sections = try Services.registry().descriptors.compactMap(\.reportSection)
        var reader: LineReader
        do throws(VMMError) {
            reader = try LineReader(path, lineLimit: Report.lineLimit)
        } catch {
            throw error.of("--from", .user)
        }
        var samples = EvenSamples<ExitReport>(intervals: Report.intervals, byteLimit: Report.sampleLimit)
        var events: [ReportTimeline.Event] = []
        var last: ExitReport?
        var number = 0
        while let line = try next(&reader) {
            number += 1
            if line.isEmpty { continue }
            guard let sample = try? JSONText.decode(ExitReport.self, from: line) else {
                // The last line may be cut off if its writer was killed.
                if number > 1, !reader.isComplete { break }
                throw VMMError.user("--from: \(path): line \(number) is not a line of stats --follow")
            }
            if let last, last.name != sample.name || last.uptimeNanoseconds > sample.uptimeNanoseconds {
                throw VMMError.user("--from: \(path): line \(number) is from another run than the lines before")
            }
            if sample.resetNanoseconds != last?.resetNanoseconds {
                samples = EvenSamples(intervals: Report.intervals, byteLimit: Report.sampleLimit)
                events = []
            } else if let last, events.count < Report.eventLimit {
                events += sections.compactMap { $0.event(last, sample) }.map {
                    ReportTimeline.Event(uptimeNanoseconds: sample.uptimeNanoseconds, $0)
                }
            }
            samples.add(sample, byteCount: line.count)
            last = sample
        }
        return try page(samples.samples, events, [("Host that wrote this page", ReportFacts.host(.examine()))])
    }

    private func next(_ reader: inout LineReader) throws(VMMError) -> [UInt8]? {
        do throws(VMMError) {
            return try reader.next()
        } catch {
            throw error.of("--from", .user)
        }
    }

    private func page(
        _ samples: [ExitReport], _ events: [ReportTimeline.Event], _ facts: [(title: String, rows: [(name: String, value: String)])]
    ) throws -> ReportPage {
        let sections = try Services.registry().descriptors.compactMap(\.reportSection)
        guard let page = ReportPage(samples, events: events, sections: sections, facts: facts) else {
            throw VMMError.user("--from: no reports in the file")
        }
        return page
    }
}
