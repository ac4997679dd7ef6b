// SPDX-License-Identifier: Apache-2.0

internal import SymVMM

/// The answer of `GET /swap-bypass`.
public struct SwapBypassState: Codable, Sendable, Equatable {
    /// What the user wants: `on` or `off`.
    public let wanted: String
    /// What is so in the guest: `on` or `off`.
    public let state: String
    /// Why the guest does not follow.
    public let obstacle: String?
    /// Everything counted.
    public let counters: [String: UInt64]
}

/// The resource `/swap-bypass`.
///
///     GET /swap-bypass                       state and counters
///     PUT /swap-bypass {"state": "on"}       turns the switch, and answers when the guest has done it
///     PUT /swap-bypass {"budget_bytes": N}   how much memory the store may take from now on
enum SwapRoutes {
    private struct Wish: Codable {
        let state: String?
        let budget: UInt64?

        enum CodingKeys: String, CodingKey {
            case state
            case budget = "budget_bytes"
        }
    }

    static func routes(for service: SwapBypassService) -> [APIRoute] {
        [
            APIRoute(.get, "/swap-bypass") { [weak service] _ throws(APIError) in
                guard let service else { throw APIError(400, "the VM is ending") }
                return try .json(state(of: service))
            },
            APIRoute(.put, "/swap-bypass") { [weak service] request throws(APIError) in
                guard let service else { throw APIError(400, "the VM is ending") }
                let wish: Wish
                do {
                    wish = try JSONText.decode(Wish.self, from: request.body)
                } catch {
                    throw APIError(400, "the request's body: give {\"state\": \"on\"} or {\"state\": \"off\"}, or budget_bytes")
                }
                guard wish.state != nil || wish.budget != nil else {
                    throw APIError(400, "the request's body: give state or budget_bytes")
                }
                if let state = wish.state, state != "on", state != "off" {
                    throw APIError(400, "state: '\(state)' is not a state: give on or off")
                }
                if let budget = wish.budget, !service.store.setBudget(budget) {
                    throw APIError(400, "budget_bytes: the store has no budget: start the VM with --swap SIZE,path=FILE,budget=SIZE")
                }
                if let state = wish.state, let obstacle = service.turn(on: state == "on") { throw APIError(400, obstacle) }
                return try .json(state(of: service))
            },
        ]
    }

    private static func state(of service: SwapBypassService) -> SwapBypassState {
        let counters = Dictionary(service.counters().map { ($0.name, $0.value) }) { first, _ in first }
        return SwapBypassState(
            wanted: service.wanted ? "on" : "off", state: service.inForce ? "on" : "off", obstacle: service.obstacle, counters: counters)
    }
}
