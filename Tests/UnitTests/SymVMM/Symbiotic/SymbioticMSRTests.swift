// SPDX-License-Identifier: Apache-2.0

import SymbioticABI
import Testing

@testable import SymVMM

/// docs/ABI.md, section 2: the values that each MSR accepts, and those that cause #GP.
@Suite struct SymbioticMSRTests {
    private static let kernel: UInt64 = 0xffff_8000_0012_3450
    private static let page: UInt64 = 0x5000
    private static let perProcessor: [UInt32] = [
        SYMBIOTIC_MSR_LOCAL_PAGE, SYMBIOTIC_MSR_RIP, SYMBIOTIC_MSR_RSP, SYMBIOTIC_MSR_CS, SYMBIOTIC_MSR_GS_BASE, SYMBIOTIC_MSR_CR3_CLEAR,
        SYMBIOTIC_MSR_IDT, SYMBIOTIC_MSR_FAST_DOORBELL, SYMBIOTIC_MSR_FS_BASE,
    ]

    /// Writes an MSR in a guest that has 48 address bits, a global page, and one page of RAM at `page`. Returns false for #GP.
    private func write(_ registration: inout SymbioticMSRs, _ index: UInt32, _ value: UInt64, bits: Int = 48, global: Bool = true)
        -> Bool
    {
        registration.write(index, value, addressBits: bits, hasGlobalPage: global) { $0 == SymbioticMSRTests.page }
    }

    /// Whether a new or given registration accepts a value. Expects a refusal to leave the registration unchanged.
    private func takes(
        _ index: UInt32, _ value: UInt64, bits: Int = 48, global: Bool = true, from start: SymbioticMSRs = SymbioticMSRs()
    ) -> Bool {
        var registration = start
        let isTaken = write(&registration, index, value, bits: bits, global: global)
        if isTaken { #expect(registration.read(index) == value) } else { #expect(registration == start) }
        return isTaken
    }

    private var complete: SymbioticMSRs {
        SymbioticMSRs(
            localPage: SymbioticMSRTests.page, rip: 0, rsp: SymbioticMSRTests.kernel, cs: 0x10, gsBase: 0, fsBase: 0,
            cr3Clear: 0, idt: SymbioticMSRTests.kernel)
    }

    @Test func everythingReadsAsZeroAtFirstAndTheGapsAreNobodys() {
        let registration = SymbioticMSRs()
        for index in SymbioticMSRTests.perProcessor { #expect(registration.read(index) == 0) }
        for index in SymbioticInterface.registers where !SymbioticMSRTests.perProcessor.contains(index) {
            #expect(registration.read(index) == nil)
            #expect(!takes(index, 0))
            #expect(!takes(index, SymbioticMSRTests.kernel))
        }
        #expect(!registration.isArmed)
    }

    @Test func theLocalPageIsAPageOfMemoryAndNeedsTheGlobalOne() {
        #expect(takes(SYMBIOTIC_MSR_LOCAL_PAGE, 0x5000))
        #expect(takes(SYMBIOTIC_MSR_LOCAL_PAGE, 0))
        #expect(takes(SYMBIOTIC_MSR_LOCAL_PAGE, 0, global: false))
        #expect(!takes(SYMBIOTIC_MSR_LOCAL_PAGE, 0x5000, global: false))
        #expect(!takes(SYMBIOTIC_MSR_LOCAL_PAGE, 0x6000))
        #expect(!takes(SYMBIOTIC_MSR_LOCAL_PAGE, 0x5008))
        #expect(!takes(SYMBIOTIC_MSR_LOCAL_PAGE, .max))
    }

    @Test func ripNeedsAllTheOthers() {
        let kernel = SymbioticMSRTests.kernel
        #expect(takes(SYMBIOTIC_MSR_RIP, kernel + 1, from: complete))
        #expect(takes(SYMBIOTIC_MSR_RIP, 0))
        for missing: WritableKeyPath<SymbioticMSRs, UInt64> in [\.localPage, \.rsp, \.cs, \.idt] {
            var registration = complete
            registration[keyPath: missing] = 0
            #expect(!takes(SYMBIOTIC_MSR_RIP, kernel, from: registration))
        }
        for value: UInt64 in [1, 0x40_0000, 0x7fff_ffff_ffff, 0x8000_0000_0000, 0x8000_0000_0000_0000, 0xffff_7fff_ffff_ffff] {
            #expect(!takes(SYMBIOTIC_MSR_RIP, value, from: complete), "RIP 0x\(String(value, radix: 16))")
        }
        #expect(takes(SYMBIOTIC_MSR_RIP, 0xffff_8000_0000_0000, from: complete))
        #expect(takes(SYMBIOTIC_MSR_RIP, .max, from: complete))
    }

    @Test(arguments: [SYMBIOTIC_MSR_RSP, SYMBIOTIC_MSR_IDT]) func stackAndTableAreAlignedKernelAddresses(index: UInt32) {
        #expect(takes(index, 0))
        #expect(takes(index, 0xffff_8000_0000_0000))
        #expect(takes(index, 0xffff_ffff_ffff_fff0))
        for value: UInt64 in [0xffff_8000_0000_0008, 0xffff_8000_0000_0001, 0x1000, 0x7fff_ffff_fff0, 0x8000_0000_0000_0000, .max] {
            #expect(!takes(index, value), "0x\(String(value, radix: 16))")
        }
    }

    @Test func theFastDoorbellIsAKernelAddress() {
        for value: UInt64 in [0, 0xffff_8000_0000_0000, 0xffff_ffff_c012_3457, .max] { #expect(takes(SYMBIOTIC_MSR_FAST_DOORBELL, value)) }
        for value: UInt64 in [1, 0x40_0000, 0x7fff_ffff_ffff, 0x8000_0000_0000, 0x8000_0000_0000_0000, 0xffff_7fff_ffff_ffff] {
            #expect(!takes(SYMBIOTIC_MSR_FAST_DOORBELL, value), "0x\(String(value, radix: 16))")
        }
        #expect(takes(SYMBIOTIC_MSR_RIP, SymbioticMSRTests.kernel, from: complete), "no fast doorbell is required")
    }

    @Test func csIsASelectorOfRingZero() {
        for value: UInt64 in [0, 8, 0x10, 0xfff0] { #expect(takes(SYMBIOTIC_MSR_CS, value)) }
        for value: UInt64 in [1, 4, 7, 0xb, 0x13, 0x14, 0xfff8, 0xffff, 0x1_0010, .max] {
            #expect(!takes(SYMBIOTIC_MSR_CS, value), "0x\(String(value, radix: 16))")
        }
    }

    @Test(arguments: [SYMBIOTIC_MSR_GS_BASE, SYMBIOTIC_MSR_FS_BASE]) func basesAreCanonical(index: UInt32) {
        for value: UInt64 in [0, 1, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, .max] { #expect(takes(index, value)) }
        for value: UInt64 in [0x8000_0000_0000, 0x8000_0000_0000_0000, 0xffff_7fff_ffff_ffff, 0x0001_0000_0000_0000] {
            #expect(!takes(index, value), "0x\(String(value, radix: 16))")
        }
    }

    @Test func theMaskHoldsLowBitsOnly() {
        for value: UInt64 in [0, 0x1800, 0x1fff] { #expect(takes(SYMBIOTIC_MSR_CR3_CLEAR, value)) }
        for value: UInt64 in [0x2000, 0x3fff, 1 << 63, .max] { #expect(!takes(SYMBIOTIC_MSR_CR3_CLEAR, value)) }
    }

    @Test func anArmedProcessorTakesNothingButToBeDisarmed() {
        var armed = complete
        armed.rip = SymbioticMSRTests.kernel
        #expect(armed.isArmed)
        for index in SymbioticMSRTests.perProcessor where index != SYMBIOTIC_MSR_RIP {
            // An armed registration refuses every value: another one, the same one, and 0.
            for value in [0, 0x20, SymbioticMSRTests.kernel, armed.read(index) ?? 0] {
                #expect(!takes(index, value, from: armed))
            }
        }
        #expect(!takes(SYMBIOTIC_MSR_RIP, armed.rip, from: armed))
        #expect(!takes(SYMBIOTIC_MSR_RIP, armed.rip + 16, from: armed))
        #expect(takes(SYMBIOTIC_MSR_RIP, 0, from: armed))
    }

    @Test func canonicalDependsOnTheAddressBits() {
        let cases: [(UInt64, four: Bool, five: Bool)] = [
            (0, true, true), (.max, true, true), (0x7fff_ffff_ffff, true, true), (0x8000_0000_0000, false, true),
            (0xffff_7fff_ffff_ffff, false, true), (0xffff_8000_0000_0000, true, true), (0x00ff_ffff_ffff_ffff, false, true),
            (0x0100_0000_0000_0000, false, false), (0xfeff_ffff_ffff_ffff, false, false), (0xff00_0000_0000_0000, false, true),
            (0x8000_0000_0000_0000, false, false),
        ]
        for (address, four, five) in cases {
            #expect(SymbioticMSRs.isCanonical(address, 48) == four, "0x\(String(address, radix: 16))")
            #expect(SymbioticMSRs.isCanonical(address, 57) == five, "0x\(String(address, radix: 16))")
        }
        #expect(!takes(SYMBIOTIC_MSR_RSP, 0xff00_0000_0000_0000, bits: 48))
        #expect(takes(SYMBIOTIC_MSR_RSP, 0xff00_0000_0000_0000, bits: 57))
    }

    @Test func onlyWholePagesOfMemoryAreShared() throws {
        let interface = try interface()
        #expect(interface.isPage(0))
        #expect(interface.isPage((4 << 20) - 4096))
        for address: UInt64 in [
            4 << 20, 1, 0x1008, 0x1800, GuestMemory.holeStart, 0xfee0_0000, GuestMemory.holeEnd, 1 << 52, .max, .max - 4095,
        ] {
            #expect(!interface.isPage(address), "0x\(String(address, radix: 16))")
        }
    }

    @Test func aSharedBufferIsTakenOnlyIfItLiesInMemory() throws {
        let interface = try interface()
        #expect(interface.sharedBuffer == nil)
        #expect(interface.unavailableReason == .noModule)
        #expect(!interface.has(0))
        #expect(!interface.mayInject(.max))
    }

    private func interface() throws -> SymbioticInterface {
        SymbioticInterface(memory: try GuestMemory(byteCount: 4 << 20), interrupt: try InterruptLine(unconnected: 3))
    }
}
