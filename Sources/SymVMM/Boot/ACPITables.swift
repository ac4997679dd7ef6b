// SPDX-License-Identifier: Apache-2.0

/// The ACPI tables (ACPI 6.5, chapter 5) of symvmm's machine: RSDP, XSDT, FADT, FACS, MADT and DSDT.
///
/// Not a hardware-reduced machine: it has the legacy interrupt controllers, COM1 on interrupt 4 and the PM1 registers, through which the
/// guest powers off and receives the power button.
enum ACPITables {
    /// PM1a_CNT_BLK, after the event block's four bytes.
    private static let powerControlPort = PowerManagement.basePort &+ 4
    /// The value that the guest writes to the reset register: pulse the reset line.
    private static let resetCommand: UInt8 = 0xFE
    private static let ioAPICAddress: UInt32 = 0xFEC0_0000
    private static let localAPICAddress: UInt32 = 0xFEE0_0000

    /// Writes all tables into guest memory, one after the other.
    ///
    /// - Parameters:
    ///   - memory: the guest's memory.
    ///   - address: GPA of the area, a multiple of 64, below the reset vector: the area ends there.
    ///   - machine: the machine that the tables describe.
    /// - Returns: GPA of the RSDP.
    static func write(into memory: GuestMemory, at address: UInt64, describing machine: ACPIDescription) throws(VMMError) -> UInt64 {
        try machine.check()
        let rootPointerByteCount: UInt64 = 64
        var next = address &+ rootPointerByteCount
        var pieces: [(address: UInt64, bytes: [UInt8])] = []
        func place(_ bytes: [UInt8]) -> UInt64 {
            let start = next
            pieces.append((start, bytes))
            next = (start &+ UInt64(bytes.count) &+ 63) & ~63  // the FACS needs an alignment of 64
            return start
        }
        let facs = place(firmwareControlStructure())
        let dsdt = place(differentiatedTable(machine))
        let fadt = place(fixedTable(facs: facs, dsdt: dsdt, hasKeyboard: machine.hasKeyboard))
        let madt = place(interruptTable(vcpuCount: machine.vcpuCount))
        let xsdt = place(extendedTable(entries: [fadt, madt]))
        pieces.append((address, rootPointer(xsdt: xsdt)))
        guard next <= BootLayout.resetVector else { throw VMMError.tooManyDevices(machine.mmioDevices.count) }
        try VMMError.memoryTooSmall(for: next, in: memory) { () throws(GuestAddressError) in
            for piece in pieces { try memory.write(piece.address, bytes: piece.bytes) }
        }
        return address
    }

    /// RSDP, revision 2 (5.2.5.3). It has two checksums: over the first 20 bytes and over all.
    static func rootPointer(xsdt: UInt64) -> [UInt8] {
        var bytes = [UInt8]("RSD PTR ".utf8) + [0] + [UInt8](oemIdentifier.utf8) + [2]
        bytes.append(littleEndian: UInt32(0))  // no RSDT
        bytes.append(littleEndian: UInt32(36))
        bytes.append(littleEndian: xsdt)
        bytes += [0, 0, 0, 0]
        bytes[8] = checksum(Array(bytes.prefix(20)))
        bytes[32] = checksum(bytes)
        return bytes
    }

    /// XSDT (5.2.8).
    static func extendedTable(entries: [UInt64]) -> [UInt8] {
        var body: [UInt8] = []
        for entry in entries { body.append(littleEndian: entry) }
        return table("XSDT", revision: 1, body: body)
    }

    /// FACS (5.2.10). The guest writes to it, so it has no checksum.
    static func firmwareControlStructure() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 64)
        bytes.replaceSubrange(0..<4, with: [UInt8]("FACS".utf8))
        bytes.store(UInt32(64), at: 4)
        bytes.store(UInt8(2), at: 32)
        return bytes
    }

    /// FADT, revision 6 (5.2.9).
    static func fixedTable(facs: UInt64, dsdt: UInt64, hasKeyboard: Bool = false) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 276)
        bytes.store(UInt32(truncatingIfNeeded: facs), at: 36)
        bytes.store(UInt32(truncatingIfNeeded: dsdt), at: 40)
        bytes.store(UInt16(truncatingIfNeeded: PowerManagement.interruptNumber), at: 46)
        // No SMI command port: the machine is always in ACPI mode.
        bytes.store(UInt32(PowerManagement.basePort), at: 56)
        bytes.store(UInt32(powerControlPort), at: 64)
        bytes.store(UInt8(4), at: 88)
        bytes.store(UInt8(2), at: 89)
        bytes.store(UInt16(0x0FFF), at: 96)  // no C2
        bytes.store(UInt16(0x0FFF), at: 98)  // no C3
        bytes.store(UInt16(hasKeyboard ? 0x0007 : 0x0005), at: 109)  // legacy devices, no VGA; perhaps a keyboard controller; a CMOS clock
        // WBINVD; C1; no fixed sleep button; no fixed wake-up by the clock; a reset register. Bit 4 is clear: the power button is a fixed one.
        bytes.store(UInt32(1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10), at: 112)
        bytes.replaceSubrange(116..<128, with: portRegister(ResetController.basePort, bits: 8))
        bytes.store(resetCommand, at: 128)
        bytes.store(UInt8(4), at: 131)  // 6.4
        // X_FIRMWARE_CTRL stays 0: only one of the two fields may be set.
        bytes.store(dsdt, at: 140)
        bytes.replaceSubrange(148..<160, with: portRegister(PowerManagement.basePort, bits: 32))
        bytes.replaceSubrange(172..<184, with: portRegister(powerControlPort, bits: 16))
        return table("FACP", revision: 6, body: Array(bytes.dropFirst(headerByteCount)))
    }

    /// MADT (5.2.12).
    ///
    /// The timer needs no override: KVM's default interrupt routing connects it to input 0 of PIC and IO-APIC, not to input 2 as on a PC.
    static func interruptTable(vcpuCount: Int) -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: localAPICAddress)
        body.append(littleEndian: UInt32(1))  // PCAT_COMPAT: the machine also has two 8259 PICs
        for index in 0..<UInt8(truncatingIfNeeded: vcpuCount) {
            body += [0, 8, index, index]  // local APIC: processor, APIC id, enabled
            body.append(littleEndian: UInt32(1))
        }
        body += [1, 12, 0, 0]  // IO-APIC 0, its inputs from interrupt 0
        body.append(littleEndian: ioAPICAddress)
        body.append(littleEndian: UInt32(0))
        // Override: the power registers' interrupt is active high, level-triggered.
        body += [2, 10, 0, UInt8(truncatingIfNeeded: PowerManagement.interruptNumber)]
        body.append(littleEndian: PowerManagement.interruptNumber)
        body.append(littleEndian: UInt16(0b1101))
        body += [4, 6, 0xFF, 0, 0, 1]  // NMI on LINT1 of all processors
        return table("APIC", revision: 5, body: body)
    }

    /// DSDT: the devices that a guest cannot discover otherwise (5.2.11.1).
    static func differentiatedTable(_ machine: ACPIDescription) -> [UInt8] {
        var devices = [
            AML.device(
                "COM1",
                [
                    AML.name("_HID", AML.identifier("PNP0501")), AML.name("_UID", AML.integer(1)),
                    AML.name(
                        "_CRS",
                        AML.resourceTemplate([AML.ports(Serial8250.basePort, count: 8), AML.legacyInterrupt(Serial8250.interruptNumber)])),
                ])
        ]
        for (index, device) in machine.mmioDevices.enumerated() {
            let registers = AML.memory32(UInt32(truncatingIfNeeded: device.gpa), byteCount: UInt32(truncatingIfNeeded: device.byteCount))
            devices.append(
                AML.device(
                    deviceName(index),
                    [
                        AML.name("_HID", AML.string("LNRO0005")), AML.name("_UID", AML.integer(UInt64(index))),
                        AML.name("_CCA", AML.integer(1)),
                        AML.name("_CRS", AML.resourceTemplate([registers, AML.interrupt(device.gsi)])),
                    ]))
        }
        if let gsi = machine.symbioticInterrupt {
            devices.append(
                AML.device(
                    "SYMB",
                    [
                        AML.name("_HID", AML.string("SYMV0001")), AML.name("_UID", AML.integer(0)),
                        AML.name("_CRS", AML.resourceTemplate([AML.interrupt(gsi)])),
                    ]))
        }
        if machine.hasKeyboard {
            let ports = [UInt16(0x60), 0x64].map { AML.ports($0, count: 1) }
            devices.append(
                AML.device(
                    "KBD",
                    [
                        AML.name("_HID", AML.identifier("PNP0303")),
                        AML.name("_CRS", AML.resourceTemplate(ports + [AML.legacyInterrupt(KeyboardController.interruptNumber)])),
                    ]))
        }
        let sleepType = AML.integer(PowerManagement.softOffType)
        let powerOff = AML.name("_S5", AML.package([sleepType, sleepType, AML.integer(0), AML.integer(0)]))
        return table("DSDT", revision: 2, body: powerOff + AML.scope(root: "_SB", devices))
    }

    /// `V000`, `V001`, … in hexadecimal.
    private static func deviceName(_ index: Int) -> String {
        let digits = String(index, radix: 16, uppercase: true)
        return "V" + String(repeating: "0", count: max(0, 3 - digits.count)) + digits
    }

    private static let headerByteCount = 36
    private static let oemIdentifier = "SYMVMM"

    /// A generic address structure for a port (5.2.3.2).
    private static func portRegister(_ port: UInt16, bits: UInt8) -> [UInt8] {
        var bytes: [UInt8] = [1, bits, 0, bits == 8 ? 1 : 2]  // accessed in bytes or words
        bytes.append(littleEndian: UInt64(port))
        return bytes
    }

    /// A table with its header in front (5.2.6).
    private static func table(_ signature: String, revision: UInt8, body: [UInt8]) -> [UInt8] {
        var bytes = [UInt8](signature.utf8)
        bytes.append(littleEndian: UInt32(truncatingIfNeeded: headerByteCount + body.count))
        bytes += [revision, 0] + [UInt8](oemIdentifier.utf8) + [UInt8]("SYMVMM  ".utf8)
        bytes.append(littleEndian: UInt32(1))
        bytes += [UInt8]("SYMV".utf8)
        bytes.append(littleEndian: UInt32(1))
        bytes += body
        bytes[9] = checksum(bytes)
        return bytes
    }

    /// The checksum byte that makes the sum of all bytes 0. Its place must contain 0 now.
    private static func checksum(_ bytes: [UInt8]) -> UInt8 {
        0 &- bytes.reduce(0, &+)
    }
}
