// SPDX-License-Identifier: Apache-2.0

/// The zero page, struct boot_params (Linux Documentation/arch/x86/zero-page.rst).
struct BootParameters {
    static let byteCount = 4096
    private(set) var bytes = [UInt8](repeating: 0, count: BootParameters.byteCount)

    /// - Parameters:
    ///   - setupHeader: the header's bytes from 0x1F1 on, at most up to 0x290.
    ///   - initrd: the initial RAM disk's range; empty if there is none.
    init(setupHeader: [UInt8], commandLine: UInt64, initrd: Range<UInt64>, rsdp: UInt64, memoryMap: [MemoryMap.Entry]) {
        for (index, byte) in setupHeader.prefix(SetupHeader.roomEnd - SetupHeader.start).enumerated() {
            bytes[SetupHeader.start + index] = byte
        }
        bytes.store(UInt16(0xFFFF), at: 0x1FA)  // vid_mode: normal
        bytes.store(UInt8(0xFF), at: 0x210)  // type_of_loader: not a registered one
        // The boot loader sets these fields, whatever the file contains.
        bytes.store(UInt64(0), at: 0x250)  // setup_data
        bytes.store(UInt32(truncatingIfNeeded: commandLine), at: 0x228)
        bytes.store(UInt32(truncatingIfNeeded: commandLine >> 32), at: 0xC8)
        let initrdByteCount = initrd.upperBound &- initrd.lowerBound
        let initrdAddress = initrdByteCount == 0 ? 0 : initrd.lowerBound
        bytes.store(UInt32(truncatingIfNeeded: initrdAddress), at: 0x218)
        bytes.store(UInt32(truncatingIfNeeded: initrdAddress >> 32), at: 0xC0)
        bytes.store(UInt32(truncatingIfNeeded: initrdByteCount), at: 0x21C)
        bytes.store(UInt32(truncatingIfNeeded: initrdByteCount >> 32), at: 0xC4)
        bytes.store(rsdp, at: 0x70)  // acpi_rsdp_addr, protocol 2.14; older kernels find it by its signature
        bytes.store(UInt8(truncatingIfNeeded: memoryMap.count), at: 0x1E8)
        for (index, entry) in memoryMap.enumerated() {
            bytes.store(entry.address, at: 0x2D0 + 20 * index)
            bytes.store(entry.byteCount, at: 0x2D8 + 20 * index)
            bytes.store(entry.kind.rawValue, at: 0x2E0 + 20 * index)
        }
    }
}
