// SPDX-License-Identifier: Apache-2.0

import CKVM
import Testing

@testable import SymVMM
@testable import VMMBase

/// The contents of guest memory and of the first vCPU's registers after the loader has run.
@Suite struct BootLoaderTests {
    private static let bzImage = SyntheticKernel.bzImage()

    private func load(
        _ kernel: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "console=ttyS0", into memory: GuestMemory
    ) throws -> BootEntry {
        let kernel = try TemporaryFile(kernel)
        let initrd = try initrd.map { try TemporaryFile($0) }
        return try BootLoader.load(
            kernelPath: kernel.path, initrdPath: initrd?.path, commandLine: commandLine, memory: memory, acpi: ACPIDescription(vcpuCount: 1)
        )
    }

    @Test func aBzImageLiesWhereItWantsTo() throws {
        let memory = try GuestMemory(byteCount: 128 << 20)
        let entry = try load(BootLoaderTests.bzImage, into: memory)
        #expect(entry.instructionPointer == SyntheticKernel.address + 0x200)
        #expect(try memory.read(SyntheticKernel.address, byteCount: SyntheticKernel.pattern.count) == SyntheticKernel.pattern)
    }

    @Test func theZeroPageTellsAll() throws {
        let memory = try GuestMemory(byteCount: 128 << 20)
        let disk = SyntheticKernel.pattern + [0xAB]
        let entry = try load(BootLoaderTests.bzImage, initrd: disk, commandLine: "a=ü b", into: memory)
        let page = entry.bootParameters
        // The loader copies these fields from the file: signature, version, alignment, command line size, load address.
        for range in [0x1F1..<0x1FA, 0x1FC..<0x210, 0x211..<0x218, 0x22C..<0x250, 0x258..<0x26C] {
            #expect(try memory.read(page + UInt64(range.lowerBound), byteCount: range.count) == Array(BootLoaderTests.bzImage[range]))
        }
        #expect(try memory.load(page + 0x1FA, as: UInt16.self) == 0xFFFF)
        #expect(try memory.load(page + 0x210, as: UInt8.self) == 0xFF)
        #expect(try memory.load(page + 0x250, as: UInt64.self) == 0)
        #expect(try memory.load(page + 0x1EF, as: UInt8.self) == 0)  // the sentinel: 0 means that all fields are valid
        let line = try UInt64(memory.load(page + 0x228, as: UInt32.self))
        #expect(try memory.read(line, byteCount: 7) == Array("a=ü b".utf8) + [0])
        let address = try UInt64(memory.load(page + 0x218, as: UInt32.self))
        #expect(address == (128 << 20) - 4096)
        #expect(try memory.load(page + 0x21C, as: UInt32.self) == 0x411)
        #expect(try memory.read(address, byteCount: disk.count) == disk)
        for offset in [0xC0, 0xC4, 0xC8] as [UInt64] { #expect(try memory.load(page + offset, as: UInt32.self) == 0) }
        let rsdp = try memory.load(page + 0x70, as: UInt64.self)
        #expect(try memory.read(rsdp, byteCount: 8) == Array("RSD PTR ".utf8))
        #expect(try memory.load(page + 0x1E8, as: UInt8.self) == 5)
        #expect(try memory.load(page + 0x2D0 + 20 * 3, as: UInt64.self) == 1 << 20)
        #expect(try memory.load(page + 0x2D8 + 20 * 3, as: UInt64.self) == 127 << 20)
        #expect(try memory.load(page + 0x2E0 + 20 * 3, as: UInt32.self) == 1)
    }

    @Test func aHeaderLongerThanItsRoomIsCut() throws {
        let memory = try GuestMemory(byteCount: 2 << 20)
        let kernel = SyntheticKernel.changed(BootLoaderTests.bzImage, UInt8(0xFF), at: 0x201)
        let entry = try load(SyntheticKernel.changed(kernel, UInt64.max, at: 0x290), into: memory)
        #expect(try memory.load(entry.bootParameters + 0x290, as: UInt64.self) == 0)
    }

    @Test func theInitialRAMDiskStaysBelowItsLimitAndOffTheKernel() throws {
        let memory = try GuestMemory(byteCount: 64 << 20)
        let limited = SyntheticKernel.changed(BootLoaderTests.bzImage, UInt32(0x00FF_FFFF), at: 0x22C)
        let entry = try load(limited, initrd: [1, 2, 3], into: memory)
        #expect(try memory.load(entry.bootParameters + 0x218, as: UInt32.self) == 0x00FF_F000)
        let place = BootLoader.highestPlace
        #expect(place(0x3000, 0x80_0000, []) == 0x7F_D000)
        #expect(place(0x3000, 0x80_0000, [0x7F_E000..<0x7F_F000]) == 0x7F_B000)
        #expect(place(0x3000, 0x80_0000, [0x70_0000..<0x7F_E001, 0x6F_E000..<0x6F_F000]) == 0x6F_B000)
        #expect(place(0x10_0000, 0x20_0000, []) == 0x10_0000)
        #expect(place(0x10_0001, 0x20_0000, []) == nil)
        #expect(place(0x1000, 0x20_0000, [0x10_0000..<0x20_0000]) == nil)
        #expect(place(.max, 0x20_0000, []) == nil)
    }

    /// What symvmm adds lies behind the user's file, at a multiple of 4 bytes, with at least 4 zeroes between; the file does not change.
    @Test(arguments: [1, 2, 3, 4, 5, 4095, 4096]) func aSegmentFollowsTheInitialRAMDisk(_ byteCount: Int) throws {
        let memory = try GuestMemory(byteCount: 64 << 20)
        let kernel = try TemporaryFile(BootLoaderTests.bzImage)
        let bytes = [UInt8](repeating: 0xAB, count: byteCount)
        let initrd = try TemporaryFile(bytes)
        let segment = [UInt8](repeating: 0xCD, count: 100)
        let entry = try BootLoader.load(
            kernelPath: kernel.path, initrdPath: initrd.path, segment: segment, commandLine: "", memory: memory,
            acpi: ACPIDescription(vcpuCount: 1))
        let start = try UInt64(memory.load(entry.bootParameters + 0x218, as: UInt32.self))
        let count = try Int(memory.load(entry.bootParameters + 0x21C, as: UInt32.self))
        let loaded = try memory.read(start, byteCount: count)
        let gap = count - byteCount - segment.count
        #expect((4...7).contains(gap) && (byteCount + gap) % 4 == 0)
        #expect(loaded == bytes + [UInt8](repeating: 0, count: gap) + segment)
        #expect(try SmallFile.read(initrd.path, atMost: 1 << 20) == bytes)
    }

    @Test func aSegmentAloneIsTheInitialRAMDisk() throws {
        let memory = try GuestMemory(byteCount: 64 << 20)
        let kernel = try TemporaryFile(BootLoaderTests.bzImage)
        let entry = try BootLoader.load(
            kernelPath: kernel.path, initrdPath: nil, segment: [1, 2, 3, 4], commandLine: "", memory: memory,
            acpi: ACPIDescription(vcpuCount: 1))
        let start = try UInt64(memory.load(entry.bootParameters + 0x218, as: UInt32.self))
        #expect(try memory.load(entry.bootParameters + 0x21C, as: UInt32.self) == 4)
        #expect(try memory.read(start, byteCount: 4) == [1, 2, 3, 4])
        // Too large for the guest: an error, no trap.
        #expect(throws: VMMError.self) {
            try BootLoader.load(
                kernelPath: kernel.path, initrdPath: nil, segment: [UInt8](repeating: 1, count: 64 << 20), commandLine: "", memory: memory,
                acpi: ACPIDescription(vcpuCount: 1))
        }
    }

    @Test func aTinyELFGuestFitsIntoTwoMebibytes() throws {
        let memory = try GuestMemory(byteCount: 2 << 20)
        try memory.write(0x10_0000, bytes: [UInt8](repeating: 0xEE, count: 0x4000))
        let entry = try load(SyntheticKernel.elf(), into: memory)
        #expect(entry.instructionPointer == 0x10_0010)
        let code = Array(SyntheticKernel.pattern.prefix(64))
        #expect(try memory.read(0x10_0000, byteCount: 0x2000) == code + [UInt8](repeating: 0, count: 0x2000 - 64))
        #expect(try memory.load(0x10_2000, as: UInt8.self) == 0xEE)
        #expect(try memory.load(entry.bootParameters + 0x202, as: UInt32.self) == 0x5372_6448)
        #expect(try memory.load(entry.bootParameters + 0x211, as: UInt8.self) == 1)
    }

    @Test func aVirtualEntryIsTranslated() throws {
        let memory = try GuestMemory(byteCount: 8 << 20)
        // As in Linux: one segment at a high virtual address, one at virtual address 0. The entry point may be a virtual or a physical address.
        let segments = [
            SyntheticKernel.Segment(physical: 0x20_0000, virtual: 0xFFFF_FFFF_8100_0000), .init(physical: 0x30_0000, virtual: 0),
        ]
        #expect(
            try load(SyntheticKernel.elf(entry: 0xFFFF_FFFF_8100_0020, segments: segments), into: memory).instructionPointer == 0x20_0020)
        #expect(try load(SyntheticKernel.elf(entry: 0x20_0020, segments: segments), into: memory).instructionPointer == 0x20_0020)
        #expect(try load(SyntheticKernel.elf(entry: 0x20, segments: segments), into: memory).instructionPointer == 0x30_0020)
    }

    @Test func segmentsMayLieAboveTheHole() throws {
        let memory = try GuestMemory(byteCount: 4 << 30)
        _ = try load(SyntheticKernel.elf(segments: [.init(), .init(physical: 0x1_3FFF_E000, virtual: 0)]), into: memory)
        #expect(try memory.read(0x1_3FFF_E000, byteCount: 64) == Array(SyntheticKernel.pattern.prefix(64)))
    }

    @Test func theEntryIsInLongModeWithMemoryMappedOneToOne() throws {
        let memory = try GuestMemory(byteCount: 2 << 20)
        let entry = try load(SyntheticKernel.elf(), into: memory)
        let registers = entry.registers()
        #expect(registers.rip == 0x10_0010)
        #expect(registers.rsi == entry.bootParameters)
        #expect(registers.rflags == 2)
        var reset = kvm_sregs()
        reset.cr0 = 0x6000_0010
        reset.apic_base = 0xFEE0_0900
        let special = entry.specialRegisters(from: reset)
        #expect(special.apic_base == 0xFEE0_0900)
        #expect(special.cr0 & 0xE000_0001 == 0x8000_0001)
        #expect(special.cr4 & 0x20 != 0)
        #expect(special.efer == 0x500)
        #expect(special.cs.selector == 0x10 && special.cs.l == 1 && special.cs.db == 0)
        #expect([special.ds, special.es, special.ss].allSatisfy { $0.selector == 0x18 && $0.type == 3 && $0.present == 1 })
        // The descriptors in memory match the segment registers' hidden parts.
        #expect(try memory.load(special.gdt.base + 0x10, as: UInt64.self) == 0x00AF_9B00_0000_FFFF)
        #expect(try memory.load(special.gdt.base + 0x18, as: UInt64.self) == 0x00CF_9300_0000_FFFF)
        for address in [0, 0x10_0010, 0x1F_FFFF, 0x20_0000, 0x3FFF_FFFF, 0x4000_0000, 0xFEE0_0020, 0xFFFF_FFFF] as [UInt64] {
            #expect(try translate(address, memory, special.cr3) == address)
        }
        #expect(try translate(0x1_0000_0000, memory, special.cr3) == nil)
    }

    /// Walks the page tables as the processor does (SDM volume 3A, 4.5); nil if the address is not mapped for writing.
    private func translate(_ address: UInt64, _ memory: GuestMemory, _ root: UInt64) throws -> UInt64? {
        var table = root
        for shift in [39, 30, 21] as [UInt64] {
            let entry = try memory.load(table + 8 * (address >> shift & 511), as: UInt64.self)
            guard entry & 3 == 3 else { return nil }
            if entry & 0x80 != 0 {
                let mask = (UInt64(1) << shift) - 1
                return entry & 0xF_FFFF_FFFF_F000 & ~mask | address & mask
            }
            table = entry & 0xF_FFFF_FFFF_F000
        }
        return nil
    }
}

/// The memory map of small and large guests.
@Suite struct BootMemoryMapTests {
    private func map(_ byteCount: UInt64) throws -> [[UInt64]] {
        MemoryMap.entries(for: try GuestMemory(byteCount: byteCount)).map { [$0.address, $0.byteCount, UInt64($0.kind.rawValue)] }
    }

    private let low: [[UInt64]] = [[0, 0x9_FC00, 1], [0x9_FC00, 0x400, 2], [0xE_0000, 0x2_0000, 2]]
    private let controllers: [UInt64] = [0xFEC0_0000, 0x140_0000, 2]

    @Test func smallGuests() throws {
        #expect(try map(1 << 20) == low + [controllers])
        #expect(try map(2 << 20) == low + [[1 << 20, 1 << 20, 1], controllers])
        #expect(try map(128 << 20) == low + [[1 << 20, 127 << 20, 1], controllers])
    }

    @Test func guestsThatReachTheHole() throws {
        #expect(try map(3 << 30) == low + [[1 << 20, 3071 << 20, 1], controllers])
        #expect(try map(6 << 30) == low + [[1 << 20, 3071 << 20, 1], controllers, [4 << 30, 3 << 30, 1]])
    }
}
