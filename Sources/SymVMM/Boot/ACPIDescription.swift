// SPDX-License-Identifier: Apache-2.0

internal import VMMModel

/// What the ACPI tables tell the guest of its machine, beside what every machine has (COM1, the interrupt controllers, the power registers).
public struct ACPIDescription: Equatable, Sendable {
    /// A virtio device behind the MMIO transport (virtio 1.2, 4.2).
    public struct MMIODevice: Equatable, Sendable {
        /// First address of the registers, GPA, in the hole for devices.
        public let gpa: UInt64
        /// Length of the registers in bytes.
        public let byteCount: UInt64
        /// Input of the IO-APIC, 5 to 23 without those of the machine itself; edge-triggered and of this device alone.
        public let gsi: UInt32

        /// Describes a device.
        public init(gpa: UInt64, byteCount: UInt64, gsi: UInt32) {
            self.gpa = gpa
            self.byteCount = byteCount
            self.gsi = gsi
        }
    }

    /// Number of vCPUs (`MachineLimits.vcpuCount`); their APIC ids count from 0.
    public var vcpuCount: Int
    /// The virtio devices, in the order in which the guest finds them.
    public var mmioDevices: [MMIODevice]
    /// Input of the IO-APIC of the symbiotic interrupt (edge); nil offers none.
    public var symbioticInterrupt: UInt32?

    /// Describes a machine.
    public init(vcpuCount: Int, mmioDevices: [MMIODevice] = [], symbioticInterrupt: UInt32? = nil) {
        self.vcpuCount = vcpuCount
        self.mmioDevices = mmioDevices
        self.symbioticInterrupt = symbioticInterrupt
    }

    /// Whether a device may have this input: there is such a one, and the timer (0), the PIC's cascade (2), COM1 (4), the clock (8) and ACPI
    /// itself (9) do not have it.
    public static func isFreeInterrupt(_ gsi: UInt32) -> Bool {
        gsi < 24 && ![0, 2, 4, 8, 9].contains(gsi)
    }

    /// Throws unless the tables can say all of it.
    func check() throws(BootError) {
        guard MachineLimits.vcpuCount.contains(vcpuCount) else { throw BootError.vcpuCountOutOfRange(vcpuCount) }
        guard mmioDevices.count <= 0x1000 else { throw BootError.tooManyDevices(mmioDevices.count) }
        for device in mmioDevices {
            let (end, overflow) = device.gpa.addingReportingOverflow(device.byteCount)
            guard !overflow, device.byteCount > 0, device.gpa >= GuestMemory.holeStart, end <= BootLayout.interruptControllers else {
                throw BootError.deviceOutsideHole(address: device.gpa, byteCount: device.byteCount)
            }
        }
        for gsi in mmioDevices.map(\.gsi) + [symbioticInterrupt].compactMap({ $0 }) {
            guard ACPIDescription.isFreeInterrupt(gsi) else { throw BootError.interruptOutOfRange(gsi: gsi) }
        }
    }
}
