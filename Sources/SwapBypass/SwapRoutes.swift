// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI

/// The answer of `GET /swap-bypass`.
package struct SwapBypassState: Codable, Sendable, Equatable {
    /// What the user wants: `on` or `off`.
    package let wanted: String
    /// What is so in the guest: `on` or `off`.
    package let state: String
    /// Why the guest does not follow.
    package let obstacle: String?
    /// Everything counted.
    package let counters: [String: UInt64]
}

/// The resource `/swap-bypass`, of a machine that is there and has a swap disk.
///
///     GET /swap-bypass                       state and counters
///     PUT /swap-bypass {"state": "on"}       turns the switch, and answers when the guest has done it
///     PUT /swap-bypass {"budget_bytes": N}   how much memory the store may take from now on
package enum SwapRoutes {
    /// The routes onto a machine that may not be there yet.
    package static func routes(for machine: @escaping @Sendable () -> VirtualMachine?) -> [APIRoute] {
        [
            APIRoute(.get, "/swap-bypass") { _ throws(APIError) in try .json(state(of: service(of: machine()))) },
            APIRoute(.put, "/swap-bypass") { request throws(APIError) in
                let service = try service(of: machine())
                var fields = try APIFields(request)
                let wanted = try fields.word("state", of: ["on", "off"])
                let budget = try fields.count("budget_bytes")
                try fields.checkAllTaken()
                guard wanted != nil || budget != nil else { throw APIError(400, "the request's body: give state or budget_bytes") }
                if let budget, !service.store.setBudget(budget) {
                    throw APIError(400, "budget_bytes: the store has no budget: start the VM with --swap SIZE,path=FILE,budget=SIZE")
                }
                if let wanted, let obstacle = service.turn(on: wanted == "on") { throw APIError(400, obstacle) }
                return try .json(state(of: service))
            },
        ]
    }

    private static func service(of machine: VirtualMachine?) throws(APIError) -> SwapBypassService {
        guard let machine else { throw APIError(400, "the VM has not been started") }
        guard let service = machine.service(SwapBypassService.self) else {
            throw APIError(400, "the VM has no swap disk: start it with --swap SIZE, or PUT /swap before the start")
        }
        return service
    }

    private static func state(of service: SwapBypassService) -> SwapBypassState {
        let counters = Dictionary(service.counters().map { ($0.name, $0.value) }) { first, _ in first }
        return SwapBypassState(
            wanted: service.wanted ? "on" : "off", state: service.inForce ? "on" : "off", obstacle: service.obstacle, counters: counters)
    }
}
