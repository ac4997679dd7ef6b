// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import SwapBypass
internal import SymVMM

struct Bypass: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let a guest reach its swapped-out pages directly, or not; or say how it stands.",
        discussion: "The VM was started with --swap, and the guest has loaded symbiotic.ko.\n\nExample:\n  symvmm bypass vm1 on")

    enum Wish: String, ExpressibleByArgument, CaseIterable {
        case on, off, status
    }

    @OptionGroup var target: Target
    @Argument(help: "on, off or status.")
    var wish: Wish
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let client = APIClient()
        defer { client.stop() }
        let body: [UInt8]
        if wish == .status {
            body = try client.perform(.get, "/swap-bypass", socket: target.socket())
        } else {
            let request = try JSONText.encode(["state": wish.rawValue])
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
        guard wish == .status else { return }
        var table = TextTable([.words("COUNTER"), .numbers("VALUE")])
        for (name, value) in state.counters.sorted(by: { $0.key < $1.key }) { table.add([name, Readable.count(value)]) }
        Words.output(table.text)
    }
}
