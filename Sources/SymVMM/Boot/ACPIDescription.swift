// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

/// The variable part of the ACPI tables. Every machine also has COM1, interrupt controllers and power registers.
struct ACPIDescription: Equatable, Sendable {
    /// A virtio device behind the MMIO transport (virtio 1.2, 4.2).
    struct MMIODevice: Equatable, Sendable {
        /// GPA of the first register, in the hole for devices.
        let gpa: UInt64
        /// Length of the registers in bytes.
        let byteCount: UInt64
        /// Input of the IO-APIC, 5 to 23 except those of the machine itself; edge-triggered, not shared.
        let gsi: UInt32

        /// Describes a device.
        init(gpa: UInt64, byteCount: UInt64, gsi: UInt32) {
            self.gpa = gpa
            self.byteCount = byteCount
            self.gsi = gsi
        }
    }

    /// Number of vCPUs (`MachineLimits.vcpuCount`); their APIC IDs count from 0.
    var vcpuCount: Int
    /// The virtio devices, in the order in which the guest finds them.
    var mmioDevices: [MMIODevice]
    /// Input of the IO-APIC of the symbiotic interrupt (edge); nil: the machine has none.
    var symbioticInterrupt: UInt32?

    /// Whether the machine has a keyboard controller.
    var hasKeyboard: Bool

    /// Describes a machine.
    init(vcpuCount: Int, mmioDevices: [MMIODevice] = [], symbioticInterrupt: UInt32? = nil, hasKeyboard: Bool = false) {
        self.vcpuCount = vcpuCount
        self.mmioDevices = mmioDevices
        self.symbioticInterrupt = symbioticInterrupt
        self.hasKeyboard = hasKeyboard
    }

    /// Whether a device may use this input: it exists, and is not that of the timer (0), the PIC's cascade (2), COM1 (4), the clock (8) or
    /// ACPI (9).
    static func isFreeInterrupt(_ gsi: UInt32) -> Bool {
        gsi < 24 && ![0, 2, 4, 8, 9].contains(gsi)
    }

    /// Throws if the tables cannot describe the machine.
    func check() throws(VMMError) {
        guard MachineLimits.vcpuCount.contains(vcpuCount) else { throw VMMError.vcpuCountOutOfRange(vcpuCount) }
        guard mmioDevices.count <= 0x1000 else { throw VMMError.tooManyDevices(mmioDevices.count) }
        for device in mmioDevices {
            let (end, overflow) = device.gpa.addingReportingOverflow(device.byteCount)
            guard !overflow, device.byteCount > 0, device.gpa >= GuestMemory.holeStart, end <= BootLayout.interruptControllers else {
                throw VMMError.deviceOutsideHole(address: device.gpa, byteCount: device.byteCount)
            }
        }
        for gsi in mmioDevices.map(\.gsi) + [symbioticInterrupt].compactMap({ $0 }) {
            guard ACPIDescription.isFreeInterrupt(gsi) else { throw VMMError.interruptOutOfRange(gsi: gsi) }
        }
    }
}
