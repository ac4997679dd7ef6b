// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The reset control register of a PC's chipset (port 0xcf9): a rising bit 2 resets the machine. Linux uses it with `reboot=pci`.
///
/// The rest of the chipset's PCI ports, 0xcf8 to 0xcff, has no device.
final class ResetControlRegister: BusDevice, @unchecked Sendable {
    /// The register's port.
    static let basePort: UInt16 = 0xcf9
    /// Number of ports.
    static let portCount = 1
    private static let reset: UInt8 = 1 << 2

    private let value = Atomic<UInt8>(0)

    init() {
        super.init(name: "reset-control")
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        UInt64(value.load(ordering: .relaxed))
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        // Only byte accesses reach the register; others belong to PCI's configuration address.
        guard size == 1 else { return }
        let new = UInt8(truncatingIfNeeded: value)
        let old = self.value.exchange(new, ordering: .relaxed)
        if new & ~old & ResetControlRegister.reset != 0 { context.end(.reset) }
    }
}

/// The register's value.
extension ResetControlRegister: Snapshotable {
    struct State: Codable, Sendable {
        let value: UInt8
    }

    static let stateKind = "reset-control"

    func saveState() throws(VMMError) -> State {
        State(value: value.load(ordering: .relaxed))
    }

    func restoreState(_ state: State) throws(VMMError) {
        value.store(state.value, ordering: .relaxed)
    }
}
