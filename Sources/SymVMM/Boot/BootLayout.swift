// SPDX-License-Identifier: Apache-2.0

/// Where what symvmm hands to the guest lies in the first MiB. Guest-physical addresses.
///
///     0x00500  GDT                              0x20000  command line, up to 64 KiB
///     0x07000  zero page (boot_params)          0x9FC00  where a PC's extended BIOS data area is
///     0x08000  stack for the entry, 4 KiB       0xE0000  ACPI tables, the RSDP first, up to 1 MiB
///     0x09000  page tables, 6 pages
///
/// Only the ACPI tables have to stay once the kernel has started, so only they are reserved in the memory map.
enum BootLayout {
    static let gdt: UInt64 = 0x500
    static let zeroPage: UInt64 = 0x7000
    static let stackTop: UInt64 = 0x9000
    static let pageTables: UInt64 = 0x9000
    static let commandLine: UInt64 = 0x2_0000
    /// With the zero byte at its end.
    static let commandLineCapacity = 0x1_0000
    static let extendedBIOSData: UInt64 = 0x9_FC00
    static let videoMemory: UInt64 = 0xA_0000
    static let acpiTables: UInt64 = 0xE_0000
    static let acpiTablesEnd: UInt64 = 0x10_0000
    static let highMemory: UInt64 = 0x10_0000
    /// IO-APIC, local APICs and the pages KVM needs: no device goes here, and the memory map reserves it.
    static let interruptControllers: UInt64 = 0xFEC0_0000
    /// End of the identity mapping.
    static let identityMapEnd: UInt64 = 4 << 30

    /// What a kernel's segments must leave free.
    static let bootData: [Range<UInt64>] = [
        gdt..<0x600, zeroPage..<0xF000, commandLine..<(commandLine + UInt64(commandLineCapacity)), acpiTables..<acpiTablesEnd,
    ]
}
