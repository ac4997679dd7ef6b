// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

extension PowerManagement: Snapshotable {
    /// The fixed registers.
    struct State: Codable, Sendable, Equatable {
        var status: UInt16
        var enable: UInt16
        var control: UInt16
    }

    static let stateKind = "power-management"

    func saveState() throws(VMMError) -> State {
        registers.withLock { State(status: $0.status, enable: $0.enable, control: $0.control) }
    }

    func restoreState(_ state: State) throws(VMMError) {
        guard state.status & ~PowerManagement.powerButton == 0, UInt64(state.control) & PowerManagement.sleepEnable == 0,
            state.control & PowerManagement.sciEnable != 0
        else { throw .user("the power management's state has invalid event or control bits") }
        registers.withLock { registers in
            registers = Registers(status: state.status, enable: state.enable, control: state.control)
            // The state of KVM's interrupt controllers does not include the level of a line.
            update(registers)
        }
    }
}
