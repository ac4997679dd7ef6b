// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// ACPI's fixed power-management registers: the power button, and power-off by the guest (ACPI 6.4, 4.8.3).
///
/// PM1a event block (status and enable, 2 bytes each) and PM1a control block (2 bytes) follow each other from port 0x600. The system control
/// interrupt is level-triggered: high while an enabled event is pending.
final class PowerManagement: BusDevice, @unchecked Sendable {
    /// First port: PM1a_EVT_BLK; PM1a_CNT_BLK is at 0x604.
    static let basePort: UInt16 = 0x600
    /// Number of ports.
    static let portCount = 6
    /// Global system interrupt of the system control interrupt.
    static let interruptNumber: UInt32 = 9
    /// SLP_TYP of the soft-off state, as in the DSDT's \_S5 object.
    static let softOffType: UInt64 = 5

    static let powerButton: UInt16 = 1 << 8
    static let sleepEnable: UInt64 = 1 << 13
    static let sciEnable: UInt16 = 1

    struct Registers {
        var status: UInt16 = 0
        var enable: UInt16 = 0
        var control: UInt16 = PowerManagement.sciEnable
    }

    let registers = Mutex(Registers())
    private let interrupt: LevelInterrupt

    init(interrupt: LevelInterrupt) {
        self.interrupt = interrupt
        super.init(name: "acpi")
    }

    /// Presses the power button. Any thread.
    ///
    /// - Returns: false if the guest has not enabled the button. Then no event stays behind: a guest that enables the button later would power off
    ///   although the caller has reported a failure.
    func pressPowerButton() -> Bool {
        registers.withLock { registers in
            guard registers.enable & PowerManagement.powerButton != 0 else { return false }
            registers.status |= PowerManagement.powerButton
            update(registers)
            return true
        }
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        let all = registers.withLock { UInt64($0.status) | UInt64($0.enable) << 16 | UInt64($0.control) << 32 }
        return all >> (8 &* min(offset, 7))
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        let ends = registers.withLock { registers in
            switch (offset, size) {
            case (0, 2):
                registers.status &= ~UInt16(truncatingIfNeeded: value)
            case (0, 4):
                registers.status &= ~UInt16(truncatingIfNeeded: value)
                registers.enable = UInt16(truncatingIfNeeded: value >> 16)
            case (2, 2):
                registers.enable = UInt16(truncatingIfNeeded: value)
            case (4, 2), (4, 4):
                // SLP_EN reads as zero; SCI_EN stays: the machine has no legacy mode.
                registers.control = UInt16(truncatingIfNeeded: value & ~PowerManagement.sleepEnable) | PowerManagement.sciEnable
                return value & PowerManagement.sleepEnable != 0 && value >> 10 & 7 == PowerManagement.softOffType
            default:
                break
            }
            update(registers)
            return false
        }
        if ends { context.end(.powerOff) }
    }

    /// Sets the interrupt's level.
    func update(_ registers: Registers) {
        interrupt.set(high: registers.status & registers.enable != 0)
    }
}
