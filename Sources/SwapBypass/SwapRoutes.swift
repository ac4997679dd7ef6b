// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMAPI

/// The answer of `GET /swap-bypass`.
package struct SwapBypassState: Codable, Sendable, Equatable {
    /// The requested state.
    package let wanted: SwapSwitch
    /// The guest's state.
    package let state: SwapSwitch
    /// Why the guest is not in the requested state.
    package let unavailableReason: String?
    /// Counters by name.
    package let counters: [String: UInt64]
    /// The store's tiers; nil when it has no budget.
    package let tiers: SwapTiers?

    /// The names of the fields.
    package enum CodingKeys: String, CodingKey {
        case wanted, state
        case unavailableReason = "unavailable_reason"
        case counters, tiers
    }
}

/// The body of `PUT /swap-bypass`: at least one field.
package struct SwapChange: APIResource {
    /// The requested state.
    package var state: SwapSwitch?
    /// Budget of the store in bytes of host memory.
    package var budget: Int64?

    /// The names of the fields.
    package enum CodingKeys: String, CodingKey, CaseIterable {
        case state
        case budget = "budget_bytes"
    }

    /// Creates a body.
    package init(state: SwapSwitch?, budget: UInt64?) {
        self.state = state
        self.budget = budget.map { Int64(clamping: $0) }
    }
}

/// The resource `/swap-bypass` of a machine with a swap disk.
///
///     GET /swap-bypass                       state and counters
///     PUT /swap-bypass {"state": "on"}       requests the state; answers when the guest has changed it
///     PUT /swap-bypass {"budget_bytes": N}   sets the budget of the store; PATCH does the same
package enum SwapRoutes {
    /// Creates the routes. The machine may not exist yet.
    package static func routes(for machine: @escaping @Sendable () -> VirtualMachine?) -> [APIRoute] {
        [
            APIRoute(.get, "/swap-bypass", lane: .life) { _ throws(APIError) in try .json(state(of: service(of: machine()))) },
            APIRoute(.put, "/swap-bypass") { request throws(APIError) in try change(request, machine()) },
            APIRoute(.patch, "/swap-bypass") { request throws(APIError) in try change(request, machine()) },
        ]
    }

    private static func change(_ request: APIRequest, _ machine: VirtualMachine?) throws(APIError) -> APIResponse {
        let service = try service(of: machine)
        let received: Received<SwapChange> = try request.body()
        let wanted = received.state
        let budget = try budget(received)
        guard wanted != nil || budget != nil else { throw APIError(400, "the request's body: give state or budget_bytes") }
        if let budget, !service.store.setBudget(budget) {
            throw APIError(400, "budget_bytes: the store has no budget: use --swap SIZE,path=FILE,budget=SIZE")
        }
        if let wanted, let reason = service.setEnabled(wanted == .on) { throw APIError(400, reason) }
        return try .json(state(of: service))
    }

    private static func budget(_ received: Received<SwapChange>) throws(APIError) -> UInt64? {
        guard let number = received.budget else { return nil }
        guard let bytes = UInt64(exactly: number) else {
            throw APIError(400, "\(received.place(of: .budget)): \(number) is less than 0")
        }
        return bytes
    }

    private static func service(of machine: VirtualMachine?) throws(APIError) -> SwapBypassService {
        guard let machine else { throw APIError(400, "the VM has not been started") }
        guard let service = machine.service(SwapBypassService.self) else {
            throw APIError(400, "the VM has no swap disk: use --swap SIZE, or PUT /swap before the start")
        }
        return service
    }

    private static func state(of service: SwapBypassService) -> SwapBypassState {
        let counters = Dictionary(service.counters().map { ($0.name, $0.value) }) { first, _ in first }
        return SwapBypassState(
            wanted: service.isEnabled ? .on : .off, state: service.isActive ? .on : .off, unavailableReason: service.unavailableReason,
            counters: counters, tiers: service.store.tierReport)
    }
}
