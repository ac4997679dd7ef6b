// SPDX-License-Identifier: Apache-2.0

/// Guest-physical addresses of the boot data in the first MiB.
///
///     0x00472  the BIOS's reset flag (SoftReset.swift)
///     0x00500  GDT                              0x20000  command line, up to 64 KiB
///     0x07000  zero page (boot_params)          0x9FC00  where a PC's extended BIOS data area is
///     0x08000  stack for the entry, 4 KiB       0xE0000  ACPI tables, the RSDP first
///     0x09000  page tables, 6 pages             0xFFFF0  code at the reset vector, 16 bytes (SoftReset.swift)
///
/// After the kernel has started, only the ACPI tables and the code at the reset vector are needed, so the memory map reserves only them.
enum BootLayout {
    static let gdt: UInt64 = 0x500
    static let zeroPage: UInt64 = 0x7000
    static let stackTop: UInt64 = 0x9000
    static let pageTables: UInt64 = 0x9000
    static let commandLine: UInt64 = 0x2_0000
    /// Bytes for the command line, including its zero byte.
    static let commandLineCapacity = 0x1_0000
    static let extendedBIOSData: UInt64 = 0x9_FC00
    static let videoMemory: UInt64 = 0xA_0000
    static let acpiTables: UInt64 = 0xE_0000
    /// Where the processor starts after a reset: F000:FFF0.
    static let resetVector: UInt64 = 0xF_FFF0
    static let highMemory: UInt64 = 0x10_0000
    /// Start of the area of IO-APIC, local APICs and KVM's real-mode pages. It contains no other device, and the memory map reserves it.
    static let interruptControllers: UInt64 = 0xFEC0_0000
    /// End of the identity mapping.
    static let identityMapEnd: UInt64 = 4 << 30

    /// The ranges that a kernel's segments must not use.
    static let bootData: [Range<UInt64>] = [
        gdt..<0x600, zeroPage..<0xF000, commandLine..<(commandLine + UInt64(commandLineCapacity)), acpiTables..<highMemory,
    ]
}
