// SPDX-License-Identifier: Apache-2.0

public import VMMBase

/// The devices' own state. Between two requests it contains only what the guest has read of the host's side, so that a restore with another disk
/// size or another MAC address fails.

extension VirtioBlock: Snapshotable {
    /// The disk's size, sector size and read-only flag.
    public struct State: Codable, Sendable, Equatable {
        var byteCount: UInt64
        var sectorSize: Int
        var isReadOnly: Bool
    }

    /// Name of the kind of state in a saved machine.
    public static let stateKind = "virtio-block"

    /// Returns the properties of the storage.
    public func saveState() throws(VMMError) -> State {
        let storage = storage
        return State(byteCount: storage.byteCount, sectorSize: storage.sectorSize, isReadOnly: storage.isReadOnly)
    }

    /// Throws if the storage has other properties.
    public func restoreState(_ state: State) throws(VMMError) {
        guard try saveState() == state else {
            throw .user(
                "the saved disk has \(state.byteCount) bytes in sectors of \(state.sectorSize)\(state.isReadOnly ? ", read-only" : ""); "
                    + "this one has \(storage.byteCount) in sectors of \(storage.sectorSize)\(storage.isReadOnly ? ", read-only" : "")")
        }
    }
}

extension VirtioNet: Snapshotable {
    /// The guest's MAC address.
    struct State: Codable, Sendable, Equatable {
        var mac: [UInt8]
    }

    static let stateKind = "virtio-net"

    func saveState() throws(VMMError) -> State {
        State(mac: mac.bytes)
    }

    func restoreState(_ state: State) throws(VMMError) {
        guard state.mac == mac.bytes else { throw .user("the saved interface has a MAC address other than \(mac)") }
    }
}

extension VirtioRng: Snapshotable {
    static let stateKind = "virtio-rng"

    func saveState() throws(VMMError) -> NoState {
        NoState()
    }

    func restoreState(_ state: NoState) throws(VMMError) {
    }
}
