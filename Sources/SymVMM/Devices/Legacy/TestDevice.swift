// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// Ends the machine with a status that the guest gives, for guests that test something: a write to port 0xf4, as QEMU's isa-debug-exit with
/// `iobase=0xf4,iosize=4`.
final class TestDevice: BusDevice, @unchecked Sendable {
    /// The first port.
    static let basePort: UInt16 = 0xf4
    /// Number of ports.
    static let portCount = 4

    init() {
        super.init(name: "test-device")
    }

    /// Ends the run. The guest's value is the written one, with the width of the write.
    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        context.end(.reported(UInt32(truncatingIfNeeded: value)))
    }
}

/// The device has no state.
extension TestDevice: Snapshotable {
    static let stateKind = "test-device"

    func saveState() throws(VMMError) -> NoState {
        NoState()
    }

    func restoreState(_ state: NoState) throws(VMMError) {
    }
}
