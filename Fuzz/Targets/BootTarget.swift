// SPDX-License-Identifier: Apache-2.0

import Glibc
import VMMBase

@testable import SymVMM

extension FuzzTarget {
    static let boot = FuzzTarget(
        name: "boot", summary: "bzImage and ELF kernels and initrds, whole or as changes of a valid one", maximumLength: 8192,
        seeds: { BootFuzz.seeds }, prepare: { try BootFuzz().run })
}

final class BootFuzz {
    static var seeds: [[UInt8]] {
        var all: [[UInt8]] = [[2, 0, 0], [3, 4, 0, 24, 0, 0, 0, 16, 0], [2, 0x40, 0, 0x11, 2, 4, 1, 0, 0, 0]]
        for kernel in [bzImage, elf] { all.append([UInt8(0), 0, 0] + kernel) }
        return all
    }
    private static let memoryBytes: UInt64 = 2 << 20
    private let kernel: TemporaryMemoryFile
    private let initrd: TemporaryMemoryFile
    private let memory: GuestMemory

    init() throws {
        kernel = try TemporaryMemoryFile()
        initrd = try TemporaryMemoryFile()
        memory = try GuestMemory(byteCount: BootFuzz.memoryBytes)
    }

    func run(_ input: inout FuzzInput) throws {
        let form = input.byte() % 4
        let initrdBytes = Int(input.word()) * 16
        let commandLine = form == 3 ? input.text(atMost: 200) : "console=ttyS0"
        let bytes = form < 2 ? input.rest() : BootFuzz.changed(form == 2 ? BootFuzz.bzImage : BootFuzz.elf, &input)
        try kernel.write(bytes)
        if initrdBytes > 0 { try initrd.write([UInt8](repeating: 0xA5, count: initrdBytes)) }
        if let release = try? KernelRelease.read(kernelPath: kernel.path) {
            expect(KernelRelease.isRelease(release), "no release: \(release)")
        }
        // What an earlier input has loaded must not count.
        try memory.zero(0, byteCount: Int(BootFuzz.memoryBytes))
        do throws(VMMError) {
            let image = try KernelImage(path: kernel.path, memory: memory)
            let requirements = try image.load(into: memory)
            check(requirements)
            let entry = try BootLoader.load(
                kernelPath: kernel.path, initrdPath: initrdBytes > 0 ? initrd.path : nil, commandLine: commandLine, memory: memory,
                acpi: ACPIDescription(vcpuCount: 1))
            try? check(entry, requirements, initrdBytes, commandLine)
        } catch {
            Answers.check(error)
            expect(error.kind != .bug, "\(error)")
        }
    }

    private func check(_ requirements: KernelImage.Requirements) {
        expect(requirements.entry < 4 << 30 && memory.contains(requirements.entry, byteCount: 1), "the entry is outside memory")
        for range in requirements.occupied {
            expect(memory.contains(range.lowerBound, byteCount: range.count), "a segment outside memory: \(range)")
            for data in BootLayout.bootData { expect(!data.overlaps(range), "a segment over the boot data: \(range)") }
        }
    }

    /// What the kernel finds: Linux's Documentation/arch/x86/zero-page.rst.
    private func check(_ entry: BootEntry, _ requirements: KernelImage.Requirements, _ initrdBytes: Int, _ commandLine: String) throws {
        let page = entry.bootParameters
        let line: UInt32 = try memory.load(page + 0x228)
        let text = try memory.read(UInt64(line), byteCount: commandLine.utf8.count + 1)
        expect(text == Array(commandLine.utf8) + [0], "the command line is not there")
        let start = UInt64(try memory.load(page + 0x218, as: UInt32.self)) | UInt64(try memory.load(page + 0xC0, as: UInt32.self)) << 32
        let count = UInt64(try memory.load(page + 0x21C, as: UInt32.self)) | UInt64(try memory.load(page + 0xC4, as: UInt32.self)) << 32
        expect(count == UInt64(initrdBytes), "an initrd of \(count) bytes, not \(initrdBytes)")
        if initrdBytes > 0 {
            let range = start..<start + count
            expect(requirements.occupied.allSatisfy { !$0.overlaps(range) }, "the initrd lies over the kernel")
            expect(BootLayout.bootData.allSatisfy { !$0.overlaps(range) }, "the initrd lies over the boot data")
            expect(range.upperBound - 1 <= requirements.highestInitrdAddress, "the initrd lies too high")
            let bytes = try memory.read(start, byteCount: initrdBytes)
            expect(isEqual(bytes, [UInt8](repeating: 0xA5, count: initrdBytes)), "the initrd is damaged")
        }
        let entries: UInt8 = try memory.load(page + 0x1E8)
        var end: UInt64 = 0
        for index in 0..<UInt64(entries) {
            let address: UInt64 = try memory.load(page + 0x2D0 + 20 * index)
            let bytes: UInt64 = try memory.load(page + 0x2D8 + 20 * index)
            expect(bytes > 0 && address >= end, "the memory map is not in order")
            end = address + bytes
        }
        expect(entries >= 3, "a memory map of \(entries) entries")
    }

    private static func changed(_ bytes: [UInt8], _ input: inout FuzzInput) -> [UInt8] {
        var bytes = bytes
        if input.flag() { bytes = Array(bytes.prefix(Int(input.word()))) }
        while !input.isEmpty {
            let place = input.byte() < 200 ? Int(input.word() % 0x290) : Int(input.word())
            let size = input.pick([1, 2, 4, 8])
            let value = input.edge()
            for index in 0..<size where place + index < bytes.count {
                bytes[place + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))
            }
        }
        return bytes
    }

    /// A bzImage with one setup sector and a kernel of 0x410 bytes.
    private static let bzImage: [UInt8] = {
        var bytes = [UInt8](repeating: 0, count: 1024) + (0..<0x410).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) }
        bytes.store(UInt16(0x5A4D), at: 0)
        bytes.store(UInt8(1), at: 0x1F1)
        bytes.store(UInt32(0x41), at: 0x1F4)
        bytes.store(UInt16(0xAA55), at: 0x1FE)
        bytes.store(UInt16(0x6AEB), at: 0x200)
        bytes.store(UInt32(0x5372_6448), at: 0x202)
        bytes.store(UInt16(0x020F), at: 0x206)
        bytes.store(UInt16(0x100), at: 0x20E)
        bytes.replaceSubrange(0x300..<0x308, with: "6.1.0-1 ".utf8)
        bytes.store(UInt8(1), at: 0x211)
        bytes.store(UInt32(0x7FFF_FFFF), at: 0x22C)
        bytes.store(UInt32(0x10_0000), at: 0x230)
        bytes.store(UInt16(0x7F), at: 0x236)
        bytes.store(UInt32(255), at: 0x238)
        bytes.store(UInt64(0x10_0000), at: 0x258)
        bytes.store(UInt32(0x8000), at: 0x260)
        return bytes
    }()

    /// An ELF64 executable with two segments.
    private static let elf: [UInt8] = {
        var bytes = [UInt8](repeating: 0, count: 64 + 2 * 56)
        bytes.replaceSubrange(0..<7, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1])
        bytes.store(UInt16(2), at: 16)
        bytes.store(UInt16(62), at: 18)
        bytes.store(UInt32(1), at: 20)
        bytes.store(UInt64(0x10_0010), at: 24)
        bytes.store(UInt64(64), at: 32)
        bytes.store(UInt16(64), at: 52)
        bytes.store(UInt16(56), at: 54)
        bytes.store(UInt16(2), at: 56)
        for index in 0..<2 {
            let header = 64 + 56 * index
            let address = UInt64(0x10_0000 + 0x8_0000 * index)
            bytes.store(UInt32(1), at: header)
            bytes.store(UInt32(7), at: header + 4)
            bytes.store(UInt64(bytes.count), at: header + 8)
            bytes.store(address, at: header + 16)
            bytes.store(address, at: header + 24)
            bytes.store(UInt64(64), at: header + 32)
            bytes.store(UInt64(0x2000), at: header + 40)
            bytes += (0..<64).map { UInt8($0) }
        }
        return bytes
    }()
}

/// A file in memory with a path in /proc.
final class TemporaryMemoryFile {
    private let file: OwnedFileDescriptor
    let path: String

    init() throws {
        file = try OwnedFileDescriptor.memory(name: "fuzz", byteCount: 0)
        path = "/proc/self/fd/\(file.rawValue)"
    }

    func write(_ bytes: [UInt8]) throws {
        guard ftruncate(file.rawValue, 0) == 0, pwrite(file.rawValue, bytes, bytes.count, 0) == bytes.count else {
            throw VMMError.last("pwrite")
        }
    }
}
