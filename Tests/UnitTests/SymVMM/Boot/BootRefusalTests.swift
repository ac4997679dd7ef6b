// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import Testing

@testable import SymVMM

/// Each kind of wrong input has its own error of one line.
@Suite struct BootRefusalTests {
    private let machine = ACPIDescription(vcpuCount: 1)

    /// The error of loading these files; nil if they load.
    private func failure(
        _ kernel: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "", memory byteCount: UInt64 = 2 << 20,
        machine: ACPIDescription? = nil
    ) throws -> VMMError? {
        let kernel = try TemporaryFile(kernel)
        let initrd = try initrd.map { try TemporaryFile($0) }
        let memory = try GuestMemory(byteCount: byteCount)
        do throws(VMMError) {
            _ = try BootLoader.load(
                kernelPath: kernel.path, initrdPath: initrd?.path, commandLine: commandLine, memory: memory, acpi: machine ?? self.machine)
            return nil
        } catch {
            #expect(!error.description.isEmpty)
            #expect(!error.description.contains("\n"))
            return withoutPaths(error, [kernel.path] + (initrd.map { [$0.path] } ?? []))
        }
    }

    /// The error without the temporary files' names, and without the detail of a damaged kernel, so that it can be compared.
    private func withoutPaths(_ error: VMMError, _ paths: [String]) -> VMMError {
        let what = paths.reduce(error.what) { what, path in what.split(separator: path, omittingEmptySubsequences: false).joined() }
        return what.hasPrefix("kernel  is damaged: ") ? .malformedKernel(path: "", detail: "") : VMMError(error.kind, what)
    }

    @Test func theSyntheticKernelsAreRight() throws {
        #expect(try failure(SyntheticKernel.bzImage()) == nil)
        #expect(try failure(SyntheticKernel.elf()) == nil)
    }

    @Test func filesThatAreNoFiles() throws {
        let memory = try GuestMemory(byteCount: 2 << 20)
        func load(_ kernel: String, _ initrd: String? = nil) throws(VMMError) {
            _ = try BootLoader.load(kernelPath: kernel, initrdPath: initrd, commandLine: "", memory: memory, acpi: machine)
        }
        let kernel = try TemporaryFile(SyntheticKernel.elf())
        #expect(throws: VMMError.kernelUnreadable(path: "/nonexistent/vmlinuz", errno: .noSuchFileOrDirectory)) {
            try load("/nonexistent/vmlinuz")
        }
        #expect(throws: VMMError.initrdUnreadable(path: "/nonexistent/initrd", errno: .noSuchFileOrDirectory)) {
            try load(kernel.path, "/nonexistent/initrd")
        }
        #expect(throws: VMMError.notARegularFile(path: "/tmp")) { try load("/tmp") }
        #expect(throws: VMMError.notARegularFile(path: "/dev/zero")) { try load("/dev/zero") }
        #expect(throws: VMMError.notARegularFile(path: "/tmp")) { try load(kernel.path, "/tmp") }
        #expect(try failure([]) == .emptyFile(path: ""))
        #expect(
            VMMError.kernelUnreadable(path: "k", errno: .noSuchFileOrDirectory).description
                == "cannot read kernel k: No such file or directory")
    }

    @Test func filesThatAreNoKernels() throws {
        #expect(try failure(Array("#!/bin/sh\necho hello\n".utf8)) == .textFile(path: ""))
        #expect(try failure([0x1F, 0x8B, 8, 0, 0]) == .notAKernel(path: ""))
        #expect(try failure([UInt8](repeating: 0, count: 4096)) == .notAKernel(path: ""))
    }

    @Test func bzImages() throws {
        let good = SyntheticKernel.bzImage()
        let size = UInt64(good.count)
        func changed<Value: FixedWidthInteger>(_ value: Value, at offset: Int) throws -> VMMError? {
            try failure(SyntheticKernel.changed(good, value, at: offset))
        }
        #expect(try failure(Array(good.dropLast())) == .truncatedKernel(path: "", needed: size, found: size - 1))
        #expect(try failure(Array(good.prefix(0x230))) == .truncatedKernel(path: "", needed: 0x26C, found: 0x230))
        #expect(try failure(Array(good.prefix(0x100))) == .truncatedKernel(path: "", needed: 0x264, found: 0x100))
        #expect(try changed(UInt32.max, at: 0x1F4) == .truncatedKernel(path: "", needed: 1024 + 16 * 0xFFFF_FFFF, found: size))
        #expect(try changed(UInt16(0x7E), at: 0x236) == .not64Bit(path: ""))
        #expect(try changed(UInt16(0x020B), at: 0x206) == .protocolTooOld(path: "", version: 0x020B))
        #expect(try changed(UInt8(0), at: 0x211) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt8(0x10), at: 0x201) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt16(0), at: 0x1FE) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt32(1), at: 0x1F4) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt64(0x10_1000), at: 0x258) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt64(0), at: 0x258) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt64.max, at: 0x258) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt64(0x1000_0000), at: 0x258) == .memoryTooSmall(needed: 0x1000_8000, memory: 2 << 20))
        #expect(try changed(UInt32(0x20_0000), at: 0x260) == .memoryTooSmall(needed: 0x30_0000, memory: 2 << 20))
    }

    @Test func elfFiles() throws {
        let good = SyntheticKernel.elf()
        let size = UInt64(good.count)
        func changed<Value: FixedWidthInteger>(_ value: Value, at offset: Int) throws -> VMMError? {
            try failure(SyntheticKernel.changed(good, value, at: offset))
        }
        #expect(try changed(UInt8(1), at: 4) == .not64Bit(path: ""))
        #expect(try changed(UInt16(183), at: 18) == .wrongMachine(path: "", machine: 183))
        #expect(try changed(UInt16(1), at: 16) == .notExecutable(path: "", type: 1))
        #expect(try changed(UInt16(0), at: 56) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt16(32), at: 54) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt32(2), at: 64) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt64(0x2001), at: 64 + 32) == .malformedKernel(path: "", detail: ""))
        #expect(try changed(UInt64.max, at: 32) == .truncatedKernel(path: "", needed: .max, found: size))
        #expect(try changed(UInt64.max, at: 64 + 8) == .truncatedKernel(path: "", needed: .max, found: size))
        #expect(try failure(Array(good.dropLast())) == .truncatedKernel(path: "", needed: size, found: size - 1))
        #expect(try failure(Array(good.prefix(40))) == .truncatedKernel(path: "", needed: 64, found: 40))
        #expect(try changed(UInt64(0x12_0000), at: 24) == .entryOutsideSegments(path: "", entry: 0x12_0000))
    }

    @Test(arguments: [0x1F_F000, 0x20_0000, 0xC000_0000, 0x1_0000_0000, .max - 0xFFF] as [UInt64])
    func segmentsOutsideMemory(_ address: UInt64) throws {
        let file = SyntheticKernel.changed(SyntheticKernel.elf(), address, at: 64 + 24)
        #expect(try failure(file) == .segmentOutsideMemory(path: "", address: address, byteCount: 0x2000, memory: 2 << 20))
    }

    @Test(arguments: [0x10_0001, 1 << 32, 1 << 63, .max] as [UInt64]) func segmentsLongerThanMemory(_ byteCount: UInt64) throws {
        let file = SyntheticKernel.changed(SyntheticKernel.elf(), byteCount, at: 64 + 40)
        #expect(try failure(file) == .segmentOutsideMemory(path: "", address: 0x10_0000, byteCount: byteCount, memory: 2 << 20))
    }

    @Test(arguments: [0x400, 0x6000, 0xE000, 0x1_F000, 0x2_F000, 0xD_F000, 0xF_F000] as [UInt64]) func segmentsOnBootData(_ address: UInt64)
        throws
    {
        let file = SyntheticKernel.elf(segments: [.init(), .init(physical: address, virtual: 0)])
        #expect(try failure(file) == .segmentInReservedArea(path: "", address: address, byteCount: 0x2000))
    }

    @Test func commandLines() throws {
        let text = { String(repeating: "a", count: $0) }
        #expect(try failure(SyntheticKernel.bzImage(), commandLine: text(255)) == nil)
        #expect(try failure(SyntheticKernel.bzImage(), commandLine: text(256)) == .commandLineTooLong(byteCount: 256, limit: 255))
        #expect(try failure(SyntheticKernel.elf(), commandLine: text(2047)) == nil)
        #expect(try failure(SyntheticKernel.elf(), commandLine: text(2048)) == .commandLineTooLong(byteCount: 2048, limit: 2047))
        #expect(try failure(SyntheticKernel.elf(), commandLine: "a\0b") == .commandLineHasZeroByte)
        let greedy = SyntheticKernel.changed(SyntheticKernel.bzImage(), UInt32.max, at: 0x238)
        #expect(try failure(greedy, commandLine: text(1 << 16)) == .commandLineTooLong(byteCount: 1 << 16, limit: 0xFFFF))
    }

    @Test func initialRAMDisks() throws {
        // 2 MiB of memory: the first MiB is not for the disk, and the kernel uses 32 KiB of the second.
        let room = (1 << 20) - 0x8000
        let disk = { [UInt8](repeating: 1, count: $0) }
        #expect(try failure(SyntheticKernel.bzImage(), initrd: disk(room)) == nil)
        #expect(
            try failure(SyntheticKernel.bzImage(), initrd: disk(room + 1))
                == .initrdTooLarge(path: "", byteCount: UInt64(room + 1), memory: 2 << 20))
        #expect(try failure(SyntheticKernel.bzImage(), initrd: []) == .emptyFile(path: ""))
    }

    @Test func machines() throws {
        func failure(_ machine: ACPIDescription) throws -> VMMError? { try self.failure(SyntheticKernel.elf(), machine: machine) }
        for count in [0, -1, 33, .max] { #expect(try failure(ACPIDescription(vcpuCount: count)) == .vcpuCountOutOfRange(count)) }
        for gsi in [0, 2, 4, 8, 9, 24, .max] as [UInt32] {
            #expect(try failure(ACPIDescription(vcpuCount: 1, symbioticInterrupt: gsi)) == .interruptOutOfRange(gsi: gsi))
        }
        for (address, byteCount) in [(0x1000, 0x1000), (0xFEBF_F001, 0x1000), (0xD000_0000, 0), (.max, 2)] as [(UInt64, UInt64)] {
            let device = ACPIDescription.MMIODevice(gpa: address, byteCount: byteCount, gsi: 5)
            #expect(
                try failure(ACPIDescription(vcpuCount: 1, mmioDevices: [device]))
                    == .deviceOutsideHole(address: address, byteCount: byteCount))
        }
        let device = ACPIDescription.MMIODevice(gpa: 0xD000_0000, byteCount: 0x200, gsi: 5)
        for count in [0x1000, 0x1001] {
            let many = ACPIDescription(vcpuCount: 1, mmioDevices: Array(repeating: device, count: count))
            #expect(try failure(many) == .tooManyDevices(count))
        }
    }
}
