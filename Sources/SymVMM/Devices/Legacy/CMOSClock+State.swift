// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

extension CMOSClock: Snapshotable {
    /// The selected register. The time is not part of the state, because it is the host's.
    struct State: Codable, Sendable, Equatable {
        var index: UInt8
    }

    static let stateKind = "cmos"

    func saveState() throws(VMMError) -> State {
        State(index: index.load(ordering: .relaxed))
    }

    func restoreState(_ state: State) throws(VMMError) {
        guard state.index < 0x80 else { throw .user("the clock's state selects register \(state.index); there are 128") }
        index.store(state.index, ordering: .relaxed)
    }
}
