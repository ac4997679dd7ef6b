// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM

/// The loader refuses or loads damaged kernel files, but never traps. The seed is fixed, so a failure is reproducible.
@Suite struct BootFuzzTests {
    enum Format: CaseIterable, Sendable {
        case bzImage
        case elf

        var kernel: [UInt8] {
            switch self {
            case .bzImage: SyntheticKernel.bzImage()
            case .elf: SyntheticKernel.elf(segments: [.init(), .init(physical: 0x18_0000)])
            }
        }
    }

    /// SplitMix64: a small generator with the same sequence on every host.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return value ^ (value >> 31)
        }
    }

    /// Whether the file loads. Expects a loaded kernel's entry point to be in memory.
    private func loads(_ path: String, _ memory: GuestMemory) -> Bool {
        do throws(VMMError) {
            let kernel = try KernelImage(path: path, memory: memory).load(into: memory)
            #expect(memory.contains(kernel.entry, byteCount: 1))
            #expect(kernel.occupied.allSatisfy { memory.contains($0.lowerBound, byteCount: $0.count) })
            return true
        } catch {
            #expect(!error.description.isEmpty)
            return false
        }
    }

    @Test(arguments: Format.allCases) func truncatedAtEveryLength(_ format: Format) throws {
        let kernel = format.kernel
        let memory = try GuestMemory(byteCount: 2 << 20)
        let file = try TemporaryFile(kernel)
        #expect(loads(file.path, memory))
        for count in (0..<kernel.count).reversed() {
            try file.truncate(count)
            #expect(!loads(file.path, memory), "\(count) bytes")
        }
    }

    @Test(arguments: Format.allCases) func changedBytes(_ format: Format) throws {
        let kernel = format.kernel
        let memory = try GuestMemory(byteCount: 2 << 20)
        let file = try TemporaryFile(kernel)
        var generator = Generator(state: 2011)
        var refused = 0
        let interesting: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF]
        for _ in 0..<4000 {
            var bytes = kernel
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                // Change runs of bytes, so that whole fields become large or small. The bzImage's header ends before 0x290.
                let start = Int.random(in: 0..<min(bytes.count, 0x290), using: &generator)
                let run = Int.random(in: 1...8, using: &generator)
                let value = Bool.random(using: &generator) ? interesting.randomElement(using: &generator) : nil
                for index in start..<min(start + run, bytes.count) { bytes[index] = value ?? UInt8.random(in: 0...255, using: &generator) }
            }
            let length = Bool.random(using: &generator) ? bytes.count : Int.random(in: 0...bytes.count, using: &generator)
            try file.rewrite(Array(bytes.prefix(length)))
            if !loads(file.path, memory) { refused += 1 }
        }
        #expect(refused > 1000)
        #expect(refused < 4000)
    }
}
