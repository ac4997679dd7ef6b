// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// The reset line of the PC's keyboard controller (i8042), the only part that symvmm emulates: command 0xFE at port 0x64 resets the machine.
final class ResetController: BusDevice, @unchecked Sendable {
    /// The command and status port.
    static let basePort: UInt16 = 0x64
    /// Number of ports.
    static let portCount = 1
    private static let pulseReset: UInt64 = 0xfe

    init() {
        super.init(name: "i8042")
    }

    /// Status: both buffers are empty, so a guest that waits to write a command continues at once.
    override func read(offset: UInt64, size: Int) -> UInt64 {
        0
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        if value & 0xff == ResetController.pulseReset { context.end(.reset) }
    }
}

/// The device has no state.
extension ResetController: Snapshotable {
    static let stateKind = "i8042"

    func saveState() throws(VMMError) -> NoState {
        NoState()
    }

    func restoreState(_ state: NoState) throws(VMMError) {
    }
}
