// SPDX-License-Identifier: Apache-2.0

import Glibc
import SymbioticABI
import Testing

@testable import SymVMM
@testable import VMMBase

/// Registration by the guest, and symcalls that are refused, on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SymCallRegistrationTests {
    @Test func callsAreRefusedWithTheirReasons() throws {
        let off = try SymCallPuppet(symbiotic: false)
        #expect(error(off, 0) == .notOffered)
        #expect(off.read(SYMBIOTIC_MSR_GLOBAL_PAGE) == nil)
        let puppet = try SymCallPuppet(vcpus: 2)
        #expect(error(puppet, 0) == .noModule)
        try #require(puppet.prepare())
        #expect(error(puppet, 0) == .notArmed)
        #expect(puppet.write(SYMBIOTIC_MSR_RIP, SymCallPuppet.high + SymCallPuppet.Place.handler))
        #expect(error(puppet, 0) == nil)
        // The guest has not started the second vCPU.
        #expect(error(puppet, 0, vcpu: 1) == .notArmed)
        #expect(error(puppet, 0, vcpu: 2) == .noSuchVCPU)
        #expect(error(puppet, 0, vcpu: -1) == .noSuchVCPU)
        #expect(error(puppet, 3) == .unknown)
        #expect(error(puppet, .max) == .unknown)
        #expect(error(puppet, SymCallPuppet.Call.needsDoorbell) == .needsDoorbell)
        #expect(puppet.perform(.doorbell, 2) == 1)
        #expect(error(puppet, 0) == .moduleUnloading)
        #expect(puppet.perform(.doorbell, 1) == 1)
        #expect(error(puppet, 0) == nil)
        // Another major version of the ABI.
        puppet.set(SymCallPuppet.Place.globalPage + 8, 0x0002_0000 | 4096 << 32)
        #expect(error(puppet, 0) == .noModule)
        puppet.set(SymCallPuppet.Place.globalPage + 8, 0x0001_0007 | 4096 << 32)
        #expect(error(puppet, 0) == nil)
        #expect(puppet.write(SYMBIOTIC_MSR_RIP, 0))
        #expect(error(puppet, 0) == .notArmed)
        #expect(puppet.counter("refused") > 2)
        expectAlive(puppet)
    }

    @Test func aCallForADoorbellWaitsForOne() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let finished = CallsInFlight()
        let thread = try VMMBase.Thread(.command, "asker") {
            do throws(SymCallFailure) {
                finished.record(try machine.symcall(SymCallPuppet.Call.needsDoorbell, SymCallTests.values) == SymCallTests.values)
            } catch {
                finished.record(false)
            }
        }
        for _ in 0..<500 where puppet.counter("interrupts_raised") == 0 { usleep(1000) }
        usleep(20_000)
        #expect(finished.count == 0)
        #expect(puppet.perform(.doorbell, 0) == 1)
        thread.join()
        #expect(finished.count == 1 && finished.good == 1)
        #expect(puppet.word(SymCallPuppet.Place.globalPage + 0x108) == 1)
        #expect(puppet.changedRegisters(rax: 0).isEmpty)
    }

    @Test func droppingTheGlobalPageDropsEverything() throws {
        let puppet = try armed()
        #expect(puppet.read(SYMBIOTIC_MSR_GLOBAL_PAGE) == SymCallPuppet.Place.globalPage)
        #expect(puppet.write(SYMBIOTIC_MSR_GLOBAL_PAGE, 0))
        for index in SymbioticInterface.registers {
            let expected: UInt64? =
                (SYMBIOTIC_MSR_GLOBAL_PAGE...SYMBIOTIC_MSR_FAST_DOORBELL).contains(index) || index == SYMBIOTIC_MSR_FS_BASE ? 0 : nil
            #expect(puppet.read(index) == expected, "MSR 0x\(String(index, radix: 16))")
        }
        #expect(error(puppet, 0) == .noModule)
        // The VMM no longer writes to the pages.
        try puppet.memory.zero(SymCallPuppet.Place.globalPage, byteCount: 8192)
        #expect(puppet.perform(.doorbell, 0) == 1)
        #expect(error(puppet, 0, vcpu: nil) == .noModule)
        #expect(try puppet.memory.read(SymCallPuppet.Place.globalPage, byteCount: 8192).allSatisfy { $0 == 0 })
    }

    @Test func aHandlerThatDropsItsRegistrationStillReturns() throws {
        let puppet = try armed()
        #expect(error(puppet, SymCallPuppet.Call.disarm) == nil)
        #expect(error(puppet, 0) == .notArmed)
        #expect(puppet.arm())
        #expect(error(puppet, SymCallPuppet.Call.drop) == nil)
        #expect(error(puppet, 0) == .noModule)
        expectAlive(puppet)
    }

    @Test func registrationRefusesWhatTheABIRefuses() throws {
        let puppet = try SymCallPuppet()
        #expect(!puppet.write(SYMBIOTIC_MSR_LOCAL_PAGE, SymCallPuppet.Place.localPage))
        for value: UInt64 in [0x800, 0x40_0000, 0x14_0001, 0xfee0_0000, 1 << 52, .max & ~4095] {
            #expect(!puppet.write(SYMBIOTIC_MSR_GLOBAL_PAGE, value), "0x\(String(value, radix: 16))")
        }
        try #require(puppet.arm())
        #expect(!puppet.write(SYMBIOTIC_MSR_GLOBAL_PAGE, SymCallPuppet.Place.buffer))
        #expect(!puppet.write(SYMBIOTIC_MSR_RSP, SymCallPuppet.high + SymCallPuppet.Place.stack))
        #expect(!puppet.write(0x53d, 0))
        #expect(puppet.counter("registrations_refused") == 10)
        #expect(puppet.word(SymCallPuppet.Place.globalPage + 0x100) == UInt64(SYMBIOTIC_ABI_VERSION))
        #expect(puppet.word(SymCallPuppet.Place.localPage + 0x100) == 1)
        #expect(error(puppet, 0) == nil)
    }

    @Test func anUnmappedEntryOrStackFailsTheCall() throws {
        let puppet = try SymCallPuppet()
        try #require(puppet.prepare())
        #expect(puppet.write(SYMBIOTIC_MSR_RIP, 0xffff_9000_0000_0000))
        guard case .faulted(let vector, _, let rip, _) = error(puppet, 0) else {
            Issue.record("no fault")
            return
        }
        #expect(vector == 14 && rip == 0xffff_9000_0000_0000)
        expectAlive(puppet)
    }
}
