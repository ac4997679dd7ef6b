// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMBase

/// Loading reads no more than fits the guest's memory, and the `LoadingLimit` can end it.
@Suite(.timeLimit(.minutes(2))) struct BootLimitTests {
    private func failure(_ kernel: [UInt8], memory byteCount: UInt64 = 4 << 20, limit: LoadingLimit = LoadingLimit()) throws -> VMMError? {
        try failure(TemporaryFile(kernel), memory: byteCount, limit: limit)
    }

    private func failure(_ kernel: TemporaryFile, initrd: TemporaryFile? = nil, memory byteCount: UInt64, limit: LoadingLimit) throws
        -> VMMError?
    {
        let memory = try GuestMemory(byteCount: byteCount)
        do throws(VMMError) {
            _ = try BootLoader.load(
                kernelPath: kernel.path, initrdPath: initrd?.path, commandLine: "", memory: memory, acpi: ACPIDescription(vcpuCount: 1),
                limit: limit)
            return nil
        } catch {
            #expect(!error.description.contains("\n"))
            return error
        }
    }

    private func words(_ error: VMMError?) -> String {
        error?.description ?? "it was loaded"
    }

    /// Small segments, one page each, `gap` pages apart.
    private func segments(_ count: Int, gap: UInt64 = 1) -> [SyntheticKernel.Segment] {
        (0..<count).map { index in
            let address = 0x10_0000 + UInt64(index) * gap * 0x1000
            return SyntheticKernel.Segment(physical: address, virtual: address, bytes: [0x90, 0xF4], memoryByteCount: 0x1000)
        }
    }

    @Test func segmentsDoNotOverlap() throws {
        let first = SyntheticKernel.Segment(memoryByteCount: 0x2000)
        for (address, byteCount) in [(0x10_0000, 0x2000), (0x10_1FFF, 0x1000), (0x10_1000, 0x800)] as [(UInt64, UInt64)] {
            let second = SyntheticKernel.Segment(physical: address, virtual: 0, bytes: [1], memoryByteCount: byteCount)
            for pair in [[first, second], [second, first]] {
                let error = try failure(SyntheticKernel.elf(segments: pair))
                #expect(words(error).contains("segments overlap at 0x\(String(address, radix: 16))"))
            }
        }
        // Adjacent segments, in both orders.
        let behind = SyntheticKernel.Segment(physical: 0x10_2000, virtual: 0, bytes: [1], memoryByteCount: 0x1000)
        #expect(try failure(SyntheticKernel.elf(segments: [first, behind])) == nil)
        #expect(try failure(SyntheticKernel.elf(segments: [behind, first])) == nil)
        // An empty segment overlaps nothing.
        #expect(try failure(SyntheticKernel.elf(segments: [first, .init(bytes: [], memoryByteCount: 0)])) == nil)
    }

    @Test func programHeadersAreCounted() throws {
        #expect(try failure(SyntheticKernel.elf(segments: segments(256))) == nil)
        #expect(try words(failure(SyntheticKernel.elf(segments: segments(257)))).contains("257 program headers, more than 256"))
        // The audit's case: all segments overlap.
        let before = TickClock.monotonicNanoseconds()
        #expect(try words(failure(SyntheticKernel.elf(segments: segments(4000, gap: 0)))).contains("4000 program headers"))
        #expect(TickClock.monotonicNanoseconds() - before < 5_000_000_000)
    }

    /// A kernel whose file, or whose zeroed memory, is 1 GiB long. The limit ends the loading before the loader has read all of it.
    @Test(arguments: [false, true]) func loadingIsEnded(inFile: Bool) throws {
        let gibibyte = 1 << 30
        let bytes = SyntheticKernel.elf(segments: [.init(bytes: [0x90], memoryByteCount: UInt64(gibibyte))])
        let kernel = try TemporaryFile(inFile ? SyntheticKernel.changed(bytes, UInt64(gibibyte), at: 64 + 32) : bytes)
        try kernel.truncate(gibibyte + 4096)
        let counter = Counter()
        let error = try failure(
            kernel, memory: 2 << 30, limit: LoadingLimit { counter.value.wrappingAdd(1, ordering: .relaxed).newValue > 3 })
        #expect(error == .loadingEnded(path: kernel.path))
        // The loader checks the limit every 16 MiB.
        #expect(counter.value.load(ordering: .relaxed) == 4)
        #expect(try failure(kernel, memory: 2 << 30, limit: LoadingLimit(seconds: 0)) == .loadingTooSlow(path: kernel.path))
    }

    private final class Counter: Sendable {
        let value = Atomic<Int>(0)
    }

    @Test func otherFilesAreEndedToo() throws {
        let over = LoadingLimit { true }
        let image = try TemporaryFile(SyntheticKernel.bzImage())
        #expect(try failure(image, memory: 4 << 20, limit: over) == .loadingEnded(path: image.path))
        let initrd = try TemporaryFile([UInt8](repeating: 1, count: 4096))
        let elf = try TemporaryFile(SyntheticKernel.elf())
        let counter = Counter()
        // The checks are at the kernel's bytes, at its zeroes, and at the initial RAM disk's bytes.
        let third = LoadingLimit { counter.value.wrappingAdd(1, ordering: .relaxed).newValue == 3 }
        #expect(try failure(elf, initrd: initrd, memory: 4 << 20, limit: third) == .loadingEnded(path: initrd.path))
    }
}
