// SPDX-License-Identifier: Apache-2.0

import Glibc
import SymbioticABI
import Testing

@testable import SymVMM

/// Random values in everything that the guest controls: the MSRs, both pages, the ports. Always the same values, for a few seconds.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SymCallFuzzTests {
    private static let milliseconds: UInt64 = 3000

    @Test func randomRegistrationsAreAcceptedOrRefusedAsTheABIRequires() throws {
        let puppet = try SymCallPuppet()
        var noise = Noise(state: 0x5eed_0000_0000_0001)
        var model = SymbioticMSRs()
        var global: UInt64 = 0
        let memory = puppet.memory
        func isPage(_ address: UInt64) -> Bool {
            address % 4096 == 0 && memory.contains(address, byteCount: 4096)
        }
        let deadline = ContinuousClock.now + .milliseconds(SymCallFuzzTests.milliseconds)
        var writes = 0
        while ContinuousClock.now < deadline {
            let index = SYMBIOTIC_MSR_BASE + UInt32(noise.below(14))
            let value = noise.value()
            let isExpected: Bool
            if index == SYMBIOTIC_MSR_GLOBAL_PAGE {
                isExpected = value == 0 || (global == 0 && isPage(value))
                if isExpected { global = value }
                if value == 0 { model = SymbioticMSRs() }
            } else {
                isExpected = model.write(index, value, addressBits: 48, hasGlobalPage: global != 0, isPage: isPage)
            }
            #expect(puppet.write(index, value) == isExpected, "MSR 0x\(String(index, radix: 16)) = 0x\(String(value, radix: 16))")
            if index == SYMBIOTIC_MSR_GLOBAL_PAGE {
                #expect(puppet.read(index) == global)
            } else {
                #expect(puppet.read(index) == model.read(index))
            }
            // This test makes no symcall: a random entry address affects only the guest.
            writes += 1
        }
        #expect(writes > 500)
        #expect(puppet.arm())
        #expect(try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallValues(1), vcpu: 0).rbx == 1)
    }

    @Test func randomPagesOnlyMakeAnswersWrong() throws {
        let puppet = try SymCallPuppet()
        try #require(puppet.arm(fastDoorbell: .fastDoorbell))
        var noise = Noise(state: 0x5eed_0000_0000_0002)
        let deadline = ContinuousClock.now + .milliseconds(SymCallFuzzTests.milliseconds)
        var rounds = 0
        var answers = 0
        while ContinuousClock.now < deadline {
            try scribble(puppet, &noise)
            answers += ask(puppet, &noise)
            let doorbell = UInt32(noise.below(256))
            #expect(puppet.perform(noise.below(2) == 0 ? .doorbell : .fastDoorbell, doorbell) == 1)
            #expect(puppet.changedRegisters(rax: UInt64(doorbell)).isEmpty)
            _ = puppet.machine.exitStatistics()
            _ = puppet.machine.symbiotic?.sharedBuffer
            rounds += 1
        }
        #expect(rounds > 100)
        #expect(answers > 0)
        try SymCallPuppet.fillPages(puppet.memory)
        #expect(puppet.arm())
        #expect(try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallValues(1), vcpu: 0).rbx == 1)
    }

    /// Random values in one page or both. Half of the time, the fields that the VMM checks first stay valid, so that calls get further.
    private func scribble(_ puppet: SymCallPuppet, _ noise: inout Noise) throws {
        if noise.below(2) == 0 { try SymCallPuppet.fillPages(puppet.memory) }
        for _ in 0..<noise.below(40) {
            let page = noise.below(2) == 0 ? SymCallPuppet.Place.globalPage : SymCallPuppet.Place.localPage
            try puppet.memory.store(noise.value(), at: page + UInt64(noise.below(0x200)) & ~7)
        }
    }

    /// The symcalls that any guest may have, with random arguments; without those of the puppet that never return.
    private func ask(_ puppet: SymCallPuppet, _ noise: inout Noise) -> Int {
        let numbers: [UInt32] = [
            SYMBIOTIC_SYMCALL_PING, SYMBIOTIC_SYMCALL_TASK, SymCallPuppet.Call.invalidOpcode, SymCallPuppet.Call.error, 3, 511, 512, .max,
            SymCallPuppet.Call.doorbell, SymCallPuppet.Call.stringReturn,
        ]
        let values = SymCallValues(noise.value(), noise.value(), noise.value(), noise.value(), noise.value())
        do throws(SymCallFailure) {
            let number = numbers[noise.below(numbers.count)]
            let results = try puppet.machine.symcall(number, values, vcpu: 0)
            if number == SYMBIOTIC_SYMCALL_PING { #expect(results == values) }
            return 1
        } catch {
            #expect(![.timedOut, .noResponse, .exitIncomplete, .notRunning].contains(error), "\(error)")
            return 0
        }
    }
}

/// The same random values every time, often at the edges of their ranges.
private struct Noise {
    var state: UInt64

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }

    mutating func below(_ bound: Int) -> Int {
        Int(next() >> 16) % bound
    }

    mutating func value() -> UInt64 {
        let edges: [UInt64] = [
            0, 1, 8, 0x10, 0x1000, 0x1fff, 0x14_0000, 0x14_1000, 0x3f_f000, 0x40_0000, 0x7fff_ffff_ffff, 0x8000_0000_0000,
            0xffff_8000_0000_0000, 0xffff_8000_0011_0000, 0xffff_ffff_ffff_fff0, .max, 1 << 63, 1 << 52,
        ]
        switch below(4) {
        case 0: return next()
        case 1: return next() >> UInt64(below(64))
        default: return edges[below(edges.count)]
        }
    }
}
