// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM

/// The ACPI tables. The tests read them as a guest does, from the RSDP, and check every checksum.
@Suite struct BootTableTests {
    private struct Tables {
        var fadt: [UInt8] = []
        var madt: [UInt8] = []
        var dsdt: [UInt8] = []
        var facs: [UInt8] = []
    }

    private static func sum(_ bytes: [UInt8]) -> UInt8 {
        bytes.reduce(0, &+)
    }

    private func table(_ memory: GuestMemory, _ address: UInt64, _ signature: String) throws -> [UInt8] {
        #expect((0xE_0000..<0x10_0000).contains(address))
        let length = try memory.load(address + 4, as: UInt32.self)
        let bytes = try memory.read(address, byteCount: Int(length))
        #expect(bytes.prefix(4) == Array(signature.utf8)[...])
        #expect(address + UInt64(length) <= 0x10_0000)
        return bytes
    }

    private func tables(_ machine: ACPIDescription) throws -> Tables {
        let memory = try GuestMemory(byteCount: 1 << 20)
        let rsdp = try ACPITables.write(into: memory, at: 0xE_0000, describing: machine)
        #expect(rsdp == 0xE_0000)
        let pointer = try memory.read(rsdp, byteCount: 36)
        #expect(pointer.prefix(8) == Array("RSD PTR ".utf8)[...])
        #expect(pointer[15] == 2)
        #expect(BootTableTests.sum(Array(pointer.prefix(20))) == 0)
        #expect(BootTableTests.sum(pointer) == 0)
        let xsdt = try table(memory, try #require(pointer.littleEndian(at: 24)), "XSDT")
        #expect(xsdt.count == 36 + 16)
        var tables = Tables()
        tables.fadt = try table(memory, try #require(xsdt.littleEndian(at: 36)), "FACP")
        tables.madt = try table(memory, try #require(xsdt.littleEndian(at: 44)), "APIC")
        tables.dsdt = try table(memory, try #require(tables.fadt.littleEndian(at: 140)), "DSDT")
        for bytes in [xsdt, tables.fadt, tables.madt, tables.dsdt] { #expect(BootTableTests.sum(bytes) == 0) }
        let facs = UInt64(try #require(tables.fadt.littleEndian(at: 36, as: UInt32.self)))
        #expect(facs % 64 == 0)
        tables.facs = try table(memory, facs, "FACS")
        return tables
    }

    @Test func theFixedTableNamesTheDevicesThatAreThere() throws {
        let tables = try tables(ACPIDescription(vcpuCount: 1))
        let fadt = tables.fadt
        #expect(tables.facs.count == 64)
        #expect(fadt.count == 276)
        #expect(fadt.littleEndian(at: 40, as: UInt32.self).map(UInt64.init) == fadt.littleEndian(at: 140, as: UInt64.self))
        #expect(fadt.littleEndian(at: 46, as: UInt16.self) == 9)
        #expect(fadt.littleEndian(at: 48, as: UInt32.self) == 0)
        #expect(fadt.littleEndian(at: 56, as: UInt32.self) == 0x600)
        #expect(fadt.littleEndian(at: 64, as: UInt32.self) == 0x604)
        #expect(fadt.littleEndian(at: 76, as: UInt32.self) == 0)
        #expect(Array(fadt[88..<92]) == [4, 2, 0, 0])
        let bootFlags = try #require(fadt.littleEndian(at: 109, as: UInt16.self))
        #expect(bootFlags & 1 != 0)
        #expect(bootFlags & 2 == 0)
        let flags = try #require(fadt.littleEndian(at: 112, as: UInt32.self))
        #expect(flags & 1 << 4 == 0)  // the power button is a fixed-feature button
        #expect(flags & 1 << 5 != 0)
        #expect(flags & 1 << 10 != 0)
        #expect(flags & 1 << 20 == 0)  // not hardware-reduced, which would disable interrupt 4
        #expect(Array(fadt[116..<129]) == [1, 8, 0, 1, 0x64, 0, 0, 0, 0, 0, 0, 0, 0xFE])
        #expect(Array(fadt[148..<160]) == [1, 32, 0, 2, 0x00, 6, 0, 0, 0, 0, 0, 0])
        #expect(Array(fadt[172..<184]) == [1, 16, 0, 2, 0x04, 6, 0, 0, 0, 0, 0, 0])
    }

    @Test(arguments: [1, 2, 32]) func theInterruptTableHasEveryVCPU(_ count: Int) throws {
        let madt = try tables(ACPIDescription(vcpuCount: count)).madt
        #expect(madt.littleEndian(at: 36, as: UInt32.self) == 0xFEE0_0000)
        #expect(madt.littleEndian(at: 40, as: UInt32.self) == 1)
        var structures: [[UInt8]] = []
        var offset = 44
        while offset < madt.count {
            let length = Int(madt[offset + 1])
            try #require(length >= 2 && offset + length <= madt.count)
            structures.append(Array(madt[offset..<(offset + length)]))
            offset += length
        }
        let processors = (0..<UInt8(count)).map { [0, 8, $0, $0, 1, 0, 0, 0] }
        #expect(structures.filter { $0[0] == 0 } == processors)
        #expect(structures.filter { $0[0] == 1 } == [[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0]])
        // Only the SCI has an override: KVM has the timer on input 0.
        #expect(structures.filter { $0[0] == 2 } == [[2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0]])
        #expect(structures.filter { $0[0] == 4 } == [[4, 6, 0xFF, 0, 0, 1]])
    }

    @Test func theDSDTHasEveryDevice() throws {
        let devices = (0..<16).map {
            ACPIDescription.MMIODevice(gpa: 0xD000_0000 + UInt64($0) * 0x1000, byteCount: 0x1000, gsi: ResourceAllocator.freeInterrupts[$0])
        }
        let dsdt = try tables(ACPIDescription(vcpuCount: 1, mmioDevices: devices, symbioticInterrupt: 5)).dsdt
        #expect(occurrences(of: Array("LNRO0005".utf8), in: dsdt) == 16)
        #expect(occurrences(of: Array("SYMV0001".utf8), in: dsdt) == 1)
        #expect(occurrences(of: [0x0C, 0x41, 0xD0, 0x05, 0x01], in: dsdt) == 1)  // PNP0501
        #expect(occurrences(of: [0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8, 0x22, 0x10, 0, 0x79, 0], in: dsdt) == 1)
        #expect(occurrences(of: [0x08] + Array("_S5_".utf8) + [0x12, 8, 4, 0x0A, 5, 0x0A, 5, 0, 0], in: dsdt) == 1)
        for (index, device) in devices.enumerated() {
            let high = UInt8(index << 4)
            let resources: [UInt8] = [
                0x86, 9, 0, 1, 0, high, 0, 0xD0, 0, 0x10, 0, 0, 0x89, 6, 0, 3, 1, UInt8(device.gsi), 0, 0, 0, 0x79, 0,
            ]
            #expect(occurrences(of: resources, in: dsdt) == 1)
            #expect(occurrences(of: Array("V00\(String(index, radix: 16, uppercase: true))\u{8}_HID".utf8), in: dsdt) == 1)
        }
        let plain = try tables(ACPIDescription(vcpuCount: 1)).dsdt
        #expect(occurrences(of: Array("LNRO0005".utf8), in: plain) == 0)
        #expect(occurrences(of: Array("SYMV0001".utf8), in: plain) == 0)
    }

    private func occurrences(of pattern: [UInt8], in bytes: [UInt8]) -> Int {
        guard bytes.count >= pattern.count else { return 0 }
        return (0...(bytes.count - pattern.count)).count { bytes[$0..<($0 + pattern.count)] == pattern[...] }
    }

    @Test func packageLengthsCountThemselves() {
        for (content, head) in [
            (0, [1]), (62, [63]), (63, [0x41, 4]), (4093, [0x4F, 0xFF]), (4094, [0x81, 0, 1]), (1_048_572, [0x8F, 0xFF, 0xFF]),
            (1_048_573, [0xC1, 0, 0, 1]),
        ] as [(Int, [UInt8])] {
            let bytes = AML.withLength([UInt8](repeating: 0xEE, count: content))
            #expect(bytes.prefix(head.count) == head[...])
            #expect(bytes.count == head.count + content)
        }
    }

    @Test func terms() {
        #expect(AML.integer(0) == [0])
        #expect(AML.integer(1) == [1])
        #expect(AML.integer(2) == [0x0A, 2])
        #expect(AML.integer(0x100) == [0x0B, 0, 1])
        #expect(AML.integer(0x1_0000) == [0x0C, 0, 0, 1, 0])
        #expect(AML.integer(1 << 32) == [0x0E, 0, 0, 0, 0, 1, 0, 0, 0])
        #expect(AML.nameSegment("_S5") == Array("_S5_".utf8))
        #expect(AML.identifier("PNP0A03") == [0x0C, 0x41, 0xD0, 0x0A, 0x03])
        #expect(AML.identifier("LNRO0005") == AML.string("LNRO0005"))
        #expect(AML.buffer([7]) == [0x11, 3, 1, 7])
    }
}
