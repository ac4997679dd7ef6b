// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// The state in which the first vCPU enters the kernel: long mode with an identity map, as Linux's 64-bit boot protocol requires
/// (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). The other vCPUs wait for a SIPI from the first one and do not need this state.
struct BootEntry: Equatable, Sendable {
    /// RIP: the kernel's 64-bit entry, GPA.
    let instructionPointer: UInt64
    /// RSI: the zero page, GPA.
    let bootParameters: UInt64
    /// RSP: end of a stack of 4 KiB, GPA. The protocol does not require it; small guests use it.
    let stackPointer: UInt64
    /// CR3: GPA of page tables that identity-map the first 4 GiB with pages of 2 MiB, writable and executable.
    let pageTableRoot: UInt64
    /// A GDT with flat 64-bit code at 0x10, flat data at 0x18 and a TSS at 0x20, GPA.
    let gdtAddress: UInt64
    /// The kernel's file looks like Linux, which needs hardware virtualization. Small guests do not need it.
    let isLinux: Bool

    /// Length of the GDT in bytes.
    static let gdtByteCount = 0x30

    /// The general registers at the entry: KVM_SET_REGS.
    func registers() -> kvm_regs {
        var registers = kvm_regs()
        registers.rip = instructionPointer
        registers.rsi = bootParameters
        registers.rsp = stackPointer
        registers.rflags = 2  // bit 1 is always set; interrupts are off
        return registers
    }

    /// The special registers at the entry: KVM_SET_SREGS.
    ///
    /// - Parameter current: the result of KVM_GET_SREGS. The APIC base and registers that the protocol does not define keep these values.
    func specialRegisters(from current: kvm_sregs) -> kvm_sregs {
        var registers = current
        let data = segment(selector: 0x18, type: 3)  // writable data, accessed
        registers.cs = segment(selector: 0x10, type: 11)  // readable code, accessed
        (registers.ds, registers.es, registers.ss, registers.fs, registers.gs) = (data, data, data, data, data)
        registers.tr = taskState()
        registers.gdt.base = gdtAddress
        registers.gdt.limit = UInt16(BootEntry.gdtByteCount - 1)
        registers.idt.base = 0
        registers.idt.limit = 0
        registers.cr0 = 0x8000_0033  // PG, NE, ET, MP, PE; caches on
        registers.cr3 = pageTableRoot
        registers.cr4 = 0x20  // PAE
        registers.efer = 0x500  // LMA, LME
        return registers
    }

    private func segment(selector: UInt16, type: UInt8) -> kvm_segment {
        let isCode: UInt8 = type & 8 == 0 ? 0 : 1
        var segment = kvm_segment()
        segment.limit = 0xFFFF_FFFF
        segment.selector = selector
        segment.type = type
        segment.present = 1
        segment.s = 1
        segment.g = 1
        segment.l = isCode
        segment.db = 1 &- isCode
        return segment
    }

    /// VM entry requires a busy 64-bit TSS (SDM 26.3.1.2).
    private func taskState() -> kvm_segment {
        var segment = kvm_segment()
        segment.limit = 0x67
        segment.selector = 0x20
        segment.type = 11
        segment.present = 1
        return segment
    }

    /// Writes the GDT and the page tables.
    static func writeTables(into memory: GuestMemory) throws(GuestAddressError) {
        var gdt = [UInt8](repeating: 0, count: gdtByteCount)
        gdt.store(UInt64(0x00AF_9B00_0000_FFFF), at: 0x10)
        gdt.store(UInt64(0x00CF_9300_0000_FFFF), at: 0x18)
        gdt.store(UInt64(0x0000_8B00_0000_0067), at: 0x20)
        try memory.write(BootLayout.gdt, bytes: gdt)

        let present: UInt64 = 0x3  // present, writable
        let directoryPointers = BootLayout.pageTables &+ 0x1000
        let directories = BootLayout.pageTables &+ 0x2000
        var tables = [UInt8](repeating: 0, count: 6 * 4096)
        tables.store(directoryPointers | present, at: 0)
        for directory in 0..<4 {
            tables.store((directories &+ UInt64(directory) * 4096) | present, at: 4096 + 8 * directory)
        }
        for page in 0..<2048 {
            tables.store(UInt64(page) << 21 | 0x80 | present, at: 2 * 4096 + 8 * page)  // 0x80: a page of 2 MiB
        }
        try memory.write(BootLayout.pageTables, bytes: tables)
    }
}
