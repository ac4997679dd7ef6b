// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The PC's battery-backed clock (MC146818) at ports 0x70 and 0x71: the host's UTC time, read only. No alarms, no interrupts.
final class CMOSClock: BusDevice, @unchecked Sendable {
    /// First port.
    static let basePort: UInt16 = 0x70
    /// Number of ports.
    static let portCount = 2

    let index = Atomic<UInt8>(0)

    init() {
        super.init(name: "cmos")
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        guard offset == 1 else { return .max }
        return UInt64(CMOSClock.register(index.load(ordering: .relaxed), at: CalendarTime.now().seconds))
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        // Bit 7 masks NMIs on a PC; it is not part of the register number.
        if offset == 0 { index.store(UInt8(truncatingIfNeeded: value & 0x7f), ordering: .relaxed) }
    }

    /// The value of a register at a time in seconds since 1970: BCD, 24-hour mode, as status register B reports.
    static func register(_ index: UInt8, at moment: Int) -> UInt8 {
        let time = CalendarTime(secondsSince1970: moment)
        switch index {
        case 0x00: return bcd(time.second)
        case 0x02: return bcd(time.minute)
        case 0x04: return bcd(time.hour)
        case 0x06: return bcd(time.weekday + 1)
        case 0x07: return bcd(time.day)
        case 0x08: return bcd(time.month)
        case 0x09: return bcd(time.year % 100)
        case 0x0a: return 0x26  // 32,768 Hz time base, no update in progress
        case 0x0b: return 0x02  // 24-hour mode
        case 0x0d: return 0x80  // the battery is good
        case 0x32: return bcd(time.year / 100)
        default: return 0
        }
    }

    private static func bcd(_ value: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: value / 10 % 10 &* 16 &+ value % 10)
    }
}
