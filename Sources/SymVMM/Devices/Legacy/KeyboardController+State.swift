// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

extension KeyboardController: Snapshotable {
    /// The registers, and what the guest has not read.
    struct State: Codable, Sendable, Equatable {
        var control: UInt8
        var pending: Pending
        /// The oldest byte first.
        var output: [UInt8]
        var last: UInt8
    }

    static let stateKind = "keyboard"

    func saveState() throws(VMMError) -> State {
        registers.withLock { State(control: $0.control, pending: $0.pending, output: $0.output.all, last: $0.last) }
    }

    func restoreState(_ state: State) throws(VMMError) {
        guard state.output.count <= Output.capacity else {
            throw .user("the keyboard controller's state has \(state.output.count) bytes of output; the buffer holds \(Output.capacity)")
        }
        registers.withLock { registers in
            registers = Registers()
            registers.control = state.control
            registers.pending = state.pending
            registers.last = state.last
            for byte in state.output { _ = registers.output.append(UInt128(byte), 1) }
        }
    }
}
