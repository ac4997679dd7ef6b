// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SwapBypass
internal import VMMAPI
internal import VMMBase
internal import VMMClient
internal import VMMModel
internal import VMMPresentation

struct Bypass: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bypass", abstract: "Turn a guest's swap bypass on or off, or show its state.",
        discussion: """
            Requires --swap at the start, and symbiotic.ko in the guest.

            Examples:
              symvmm bypass vm1 on
              symvmm bypass vm1 --budget 512M
            """)

    enum Request: String, ExpressibleByArgument, CaseIterable {
        case on, off, status
    }

    @OptionGroup var target: Target
    @Argument(help: "on, off or status (default: status).")
    var request: Request?
    @Option(
        help: ArgumentHelp(
            "Maximum host memory of the store, smaller or larger; requires --swap SIZE,path=FILE,budget=SIZE.", valueName: "size"))
    var budget: String?
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let client = APIClient()
        defer { client.stop() }
        let budget = try budget.map { text throws(VMMError) in try ByteCount.parse(text, option: "--budget") }
        let isChange = request == .on || request == .off || budget != nil
        let body: [UInt8]
        if !isChange {
            body = try client.perform(.get, "/swap-bypass", socket: target.socket())
        } else {
            let change = try JSONText.encode(SwapChange(state: request.flatMap { SwapSwitch(rawValue: $0.rawValue) }, budget: budget))
            body = try client.perform(.put, "/swap-bypass", body: change, socket: target.socket())
        }
        let state: SwapBypassState
        do {
            state = try JSONText.decode(SwapBypassState.self, from: body)
        } catch {
            throw VMMError.host("\(target.name): cannot decode the answer: the VM may run another version of symvmm")
        }
        if json { return try Terminal.json(state) }
        var text = "\(target.name): bypass \(state.state)"
        if state.wanted != state.state { text += ", wanted \(state.wanted.rawValue)" }
        if let reason = state.unavailableReason { text += " (\(reason.printable))" }
        Terminal.output(text + "\n")
        guard !isChange else { return }
        if let tiers = state.tiers { Terminal.output(Bypass.text(of: tiers)) }
        var table = TextTable([.text("COUNTER"), .numbers("VALUE")])
        for (name, value) in state.counters.sorted(by: { $0.key < $1.key }) { table.add([name, Format.count(value)]) }
        Terminal.output(table.text)
    }

    /// The tiers as a table, and the sums below it.
    private static func text(of tiers: SwapTiers) -> String {
        var table = TextTable([
            .text("TIER"), .numbers("PAGES"), .numbers("MEMORY MIB"), .numbers("HITS"), .numbers("MOVED PAGES"), .numbers("P50"),
            .numbers("P99"),
        ])
        func mebibytes(_ bytes: UInt64) -> String { Format.rate(Double(bytes) / Double(1 << 20)) }
        for tier in tiers.tiers {
            table.add([
                tier.name.printable, Format.count(tier.pageBytes / 4096), mebibytes(tier.memoryBytes), Format.count(tier.hits),
                Format.count(tier.movedPages), tier.p50 == 0 ? "-" : Format.duration(tier.p50),
                tier.p99 == 0 ? "-" : Format.duration(tier.p99),
            ])
        }
        var text = table.text + "budget \(mebibytes(tiers.budget)) MiB, used \(mebibytes(tiers.counted)) MiB"
        if let ratio = tiers.ratio { text += ", compressed to 1/\(Format.rate(ratio))" }
        let sets = tiers.workingSet.map { "\(mebibytes($0.bytes)) MiB in \($0.seconds) s" }
        return text + (sets.isEmpty ? "\n" : "; working set \(sets.joined(separator: ", "))\n")
    }
}
