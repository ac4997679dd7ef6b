// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

@Suite struct ResourceAllocatorTests {
    private func allocator() -> ResourceAllocator {
        ResourceAllocator(windows: WindowAllocator(ramEnd: 5 << 30, addressLimit: 1 << 36), firstSlot: 2)
    }

    @Test func nothingIsGivenOutTwice() throws {
        var resources = allocator()
        try resources.takePorts(0x3f8..<0x400, for: "serial")
        try resources.takePorts(0x400..<0x401, for: "other")
        #expect(throws: VMMError.self) { try resources.takePorts(0x3ff..<0x500, for: "third") }
        try resources.takeInterrupt(16, for: "serial")
        #expect(throws: VMMError.self) { try resources.takeInterrupt(16, for: "other") }
        var interrupts: Set<UInt32> = [16]
        for _ in 1..<ResourceAllocator.freeInterrupts.count {
            #expect(interrupts.insert(try resources.allocateInterrupt(for: "device")).inserted)
        }
        #expect(interrupts == Set(ResourceAllocator.freeInterrupts))
        #expect(throws: VMMError.self) { try resources.allocateInterrupt(for: "one too many") }
        #expect(resources.allocateMemorySlot() == 2)
        #expect(resources.allocateMemorySlot() == 3)
    }

    @Test func registersAreApartAndInTheHole() throws {
        var resources = allocator()
        #expect(try resources.allocateMMIO(byteCount: 0x1000, for: "a") == 0xd000_0000)
        #expect(try resources.allocateMMIO(byteCount: 1, for: "b") == 0xd000_1000)
        #expect(try resources.allocateMMIO(byteCount: 0x1001, for: "c") == 0xd000_2000)
        #expect(try resources.allocateMMIO(byteCount: 0x1000, for: "d") == 0xd000_4000)
        for byteCount in [UInt64(0), .max, 0x0100_0000] {
            #expect(throws: VMMError.self) { try resources.allocateMMIO(byteCount: byteCount, for: "e") }
        }
        #expect(try resources.allocateMMIO(byteCount: 0x1000, for: "f") == 0xd000_5000, "what does not fit takes nothing")
    }
}
