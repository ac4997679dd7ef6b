// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
public import VMMBase

internal import Synchronization

/// Saves and restores the service. The state does not contain the pages: `copyContents(from:)` copies them, like a machine's memory.
extension SwapBypassService: Snapshotable {
    /// The addresses in the guest's page tables, and the switch.
    public struct State: Codable, Sendable, Equatable {
        var byteCount: UInt64
        var diskRegisters: UInt64
        var windowAddress: UInt64
        /// GPA of the resident-slot bitmap; 0 when all slots are resident.
        var bitmapAddress: UInt64
        /// GPA of the accessed-slot bitmap; 0 when the store has none.
        var accessedBitmapAddress: UInt64
        /// The guest can access the window.
        var isWindowMapped: Bool
        var isEnabled: Bool
        /// Counts the requests to switch.
        var requestGeneration: UInt32
        /// The guest's latest report.
        var guestStatus: UInt64
        var budget: UInt64?
        /// The guest's module offers SWAP_AGE and SWAP_EVICT.
        var canEvict: Bool
    }

    /// The kind of the state in a saved machine.
    public static let stateKind = "swap-bypass"

    /// Returns the state. Waits until no page moves: the machine is paused, so that no move begins.
    public func saveState() throws(VMMError) -> State {
        mover?.waitUntilIdle()
        return State(
            byteCount: store.byteCount, diskRegisters: diskRegisters, windowAddress: windowAddress, bitmapAddress: residentSlotsAddress,
            accessedBitmapAddress: accessedSlotsAddress, isWindowMapped: mapped.withLock { $0.window },
            isEnabled: enabled.load(ordering: .relaxed),
            requestGeneration: requestGeneration.load(ordering: .relaxed), guestStatus: status.load(ordering: .acquiring),
            budget: store.budget, canEvict: canEvict.load(ordering: .sequentiallyConsistent))
    }

    /// Maps the window at its saved address, because the guest's page tables point to it.
    public func restoreState(_ state: State) throws(VMMError) {
        guard state.byteCount == store.byteCount, (state.budget == nil) == (store.budget == nil) else {
            throw .user("the saved swap disk has \(state.byteCount) bytes, this one \(store.byteCount), or only one of them has a budget")
        }
        let own = [diskRegisters, windowAddress, residentSlotsAddress, accessedSlotsAddress]
        guard own == [state.diskRegisters, state.windowAddress, state.bitmapAddress, state.accessedBitmapAddress] else {
            throw .user("the saved swap disk and its window lie at other addresses than on this machine")
        }
        canEvict.store(state.canEvict, ordering: .sequentiallyConsistent)
        enabled.store(state.isEnabled, ordering: .relaxed)
        requestGeneration.store(state.requestGeneration, ordering: .relaxed)
        status.store(state.guestStatus, ordering: .releasing)
        if let budget = state.budget { _ = store.setBudget(budget) }
        guard state.isWindowMapped else { return }
        guard let machine, mapWindow(on: machine) else {
            throw .host("KVM rejects the swap window at 0x\(String(windowAddress, radix: 16))")
        }
    }
}
