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
        /// The guest can access the window.
        var isWindowMapped: Bool
        var isEnabled: Bool
        /// Counts the requests to switch.
        var requestGeneration: UInt32
        /// The guest's latest report.
        var guestStatus: UInt64
        var budget: UInt64?
    }

    /// The kind of the state in a saved machine.
    public static let stateKind = "swap-bypass"

    /// Returns the state.
    public func saveState() throws(VMMError) -> State {
        State(
            byteCount: store.byteCount, diskRegisters: diskRegisters, windowAddress: windowAddress, bitmapAddress: residentSlotsAddress,
            isWindowMapped: mapped.withLock { $0.window }, isEnabled: enabled.load(ordering: .relaxed),
            requestGeneration: requestGeneration.load(ordering: .relaxed), guestStatus: status.load(ordering: .acquiring),
            budget: store.budget)
    }

    /// Maps the window at its saved address, because the guest's page tables point to it.
    public func restoreState(_ state: State) throws(VMMError) {
        guard state.byteCount == store.byteCount, (state.budget == nil) == (store.budget == nil) else {
            throw .user("the saved swap disk has \(state.byteCount) bytes, this one \(store.byteCount), or only one of them has a budget")
        }
        let own = [diskRegisters, windowAddress, residentSlotsAddress]
        guard own == [state.diskRegisters, state.windowAddress, state.bitmapAddress] else {
            throw .user("the saved swap disk and its window lie at other addresses than on this machine")
        }
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
