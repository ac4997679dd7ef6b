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
        commandName: "bypass", abstract: "Let a guest reach its swapped-out pages directly, or not; or say how it stands.",
        discussion: """
            The VM was started with --swap, and the guest has loaded symbiotic.ko.

            Examples:
              symvmm bypass vm1 on
              symvmm bypass vm1 --budget 512M
            """)

    /// The body of PUT /swap-bypass.
    private struct Change: Encodable {
        let state: String?
        let budget: UInt64?

        enum CodingKeys: String, CodingKey {
            case state
            case budget = "budget_bytes"
        }
    }

    enum Wish: String, ExpressibleByArgument, CaseIterable {
        case on, off, status
    }

    @OptionGroup var target: Target
    @Argument(help: "on, off or status (default: status).")
    var wish: Wish?
    @Option(
        help: ArgumentHelp("How much of the host's memory the store may take; of --swap SIZE,path=FILE,budget=SIZE.", valueName: "size"))
    var budget: String?
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let client = APIClient()
        defer { client.stop() }
        let budget = try budget.map { text throws(ControlError) in try ByteCount.parse(text, option: "--budget") }
        let isChange = wish == .on || wish == .off || budget != nil
        let body: [UInt8]
        if !isChange {
            body = try client.perform(.get, "/swap-bypass", socket: target.socket())
        } else {
            let request = try JSONText.encode(Change(state: wish == .status ? nil : wish?.rawValue, budget: budget))
            body = try client.perform(.put, "/swap-bypass", body: request, socket: target.socket())
        }
        let state: SwapBypassState
        do {
            state = try JSONText.decode(SwapBypassState.self, from: body)
        } catch {
            throw ControlError.host("\(target.name): the answer is not understood: is it another version of symvmm?")
        }
        if json { return try Words.json(state) }
        var text = "\(target.name): bypass \(state.state)"
        if state.wanted != state.state { text += ", wanted \(state.wanted)" }
        if let obstacle = state.obstacle { text += " (\(obstacle))" }
        Words.output(text + "\n")
        guard !isChange else { return }
        var table = TextTable([.words("COUNTER"), .numbers("VALUE")])
        for (name, value) in state.counters.sorted(by: { $0.key < $1.key }) { table.add([name, Format.count(value)]) }
        Words.output(table.text)
    }
}
