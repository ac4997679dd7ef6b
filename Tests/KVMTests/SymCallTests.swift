// SPDX-License-Identifier: Apache-2.0

import Glibc
import SymbioticABI
import Testing

@testable import SymVMM

/// Symcalls into a guest without an operating system, on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SymCallTests {
    static let values = SymCallValues(1, .max, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0, 5)

    @Test func pingFromOutsideEchoes() throws {
        let puppet = try armed()
        for round: UInt64 in 0..<300 {
            let values = SymCallValues(round, .max - round, round << 32, round &* 0x9e37_79b9, 7)
            #expect(try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, values, vcpu: 0) == values)
        }
        #expect(puppet.counter("completed") == 300)
        #expect(puppet.word(SymCallPuppet.Place.handlerCalls) == 300)
        #expect(puppet.word(SymCallPuppet.Place.localPage + 0x118) == 300)
        let task = try puppet.machine.currentTask(vcpu: 0)
        #expect(task.name == "puppet" && task.tgid == 99 && task.pid == 98 && task.uid == 1000)
        #expect(puppet.word(SymCallPuppet.Place.marker) == 0, "the instruction behind the return was executed")
        expectAlive(puppet)
    }

    @Test func pingInsideADoorbellEchoesAndLeavesTheRegistersAlone() throws {
        let service = DoorbellService()
        let puppet = try armed(services: [service])
        for round in 1...100 {
            #expect(puppet.perform(.doorbell, 0x30) == 1)
            #expect(puppet.changedRegisters(rax: 0x30).isEmpty)
            #expect(service.calls.count == round)
        }
        #expect(service.calls.allSatisfy { $0 })
        // The doorbell's arguments are the guest's registers.
        #expect(service.arguments?.rbx == 0x0123_4567_89ab_cdef &* 9)
        #expect(puppet.counter("doorbells") == 100)
        #expect(puppet.counter("completed") == 200)
        #expect(puppet.writes(to: 0xe6) == 100)
    }

    @Test func registersSurviveSymcallsAtAnyInstruction() throws {
        let puppet = try armed()
        puppet.begin(.registerLoop, [200_000])
        var count: UInt64 = 0
        var answer: UInt32?
        while answer == nil, count < 100_000 {
            #expect(try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) == SymCallTests.values)
            count += 1
            answer = puppet.answer(timeout: 0)
            if answer == nil, count % 16 == 0 { answer = puppet.answer(timeout: 1) }
        }
        #expect(answer == 1 || puppet.answer() == 1)
        #expect(puppet.changedRegisters(rax: 0xf0).isEmpty)
        #expect(count > 50)
        #expect(puppet.counter("completed") == count)
    }

    @Test func eachOutIsExecutedOnceWhileSymcallsArrive() throws {
        let puppet = try armed()
        puppet.begin(.outLoop, [20_000])
        let count = try pingUntilDone(puppet)
        #expect(puppet.writes(to: 0x80) == 20_000)
        #expect(puppet.changedRegisters(rax: 0xf0).isEmpty)
        #expect(count > 50)
    }

    @Test func eachDoorbellIsExecutedOnceWithSymcallsInsideAndFromOutside() throws {
        let service = DoorbellService(number: 0x30)
        let puppet = try armed(services: [service])
        try expectEachDoorbellOnce(puppet, .doorbellLoop, service)
    }

    @Test func aCallWithinACallIsRefusedAndADoorbellInAHandlerIsIgnored() throws {
        let puppet = try armed()
        let results = try puppet.machine.symcall(SymCallPuppet.Call.doorbell, SymCallValues(41), vcpu: 0)
        #expect(results.rbx == 42)
        #expect(puppet.counter("doorbells_ignored") == 1)
        #expect(puppet.counter("doorbells") == 0)
    }

    @Test func strayReturnsAreCountedAndIgnored() throws {
        let puppet = try armed()
        #expect(puppet.perform(.strayReturn) == 1)
        #expect(puppet.perform(.strayFail) == 1)
        #expect(puppet.counter("returns_ignored") == 2)
        #expect(try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) == SymCallTests.values)
        expectAlive(puppet)
    }

    @Test func aHandlerReturnsOnce() throws {
        let puppet = try armed()
        #expect(error(puppet, SymCallPuppet.Call.twice) == nil)
        #expect(puppet.word(SymCallPuppet.Place.marker) == 0)
        #expect(error(puppet, SymCallPuppet.Call.stringReturn) == nil)
        #expect(puppet.word(SymCallPuppet.Place.marker) == 0)
        #expect(puppet.counter("completed") == 2)
        expectAlive(puppet)
    }

    @Test func thePortsHaveNoEffectFromUserMode() throws {
        let puppet = try armed()
        puppet.set(SymCallPuppet.Place.flag, 0)
        puppet.begin(.user)
        for _ in 0..<200 where puppet.counter("doorbells_ignored") < 3 || puppet.counter("returns_ignored") < 2 { usleep(10_000) }
        #expect(puppet.counter("doorbells_ignored") == 3)
        #expect(puppet.counter("returns_ignored") == 2)
        #expect(puppet.counter("doorbells") == 0)
        // A symcall interrupts user mode, and returns there.
        for _ in 0..<100 {
            #expect(try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) == SymCallTests.values)
        }
        puppet.set(SymCallPuppet.Place.flag, 1)
        #expect(puppet.answer() == 1)
        expectAlive(puppet)
    }

    @Test(arguments: [SymCallPuppet.Call.spin, SymCallPuppet.Call.halt]) func aHandlerThatNeverReturnsIsCutOff(number: UInt32) throws {
        let puppet = try armed()
        puppet.set(SymCallPuppet.Place.flag, 0)
        puppet.begin(.spin)
        let started = ContinuousClock.now
        #expect(error(puppet, number) == .timedOut)
        let elapsed = ContinuousClock.now - started
        #expect(elapsed > .milliseconds(400) && elapsed < .seconds(5), "\(elapsed)")
        #expect(error(puppet, SYMBIOTIC_SYMCALL_PING) == .disabled)
        #expect(puppet.counter("timed_out") == 1)
        #expect(puppet.word(SymCallPuppet.Place.globalPage + 0x100) >> 32 == 1)
        #expect(puppet.word(SymCallPuppet.Place.localPage + 0x108) == 1)
        // The guest continues, and symcalls work again after the next registration.
        puppet.set(SymCallPuppet.Place.flag, 1)
        #expect(puppet.answer() == 1)
        #expect(puppet.changedRegisters(rax: 0xf0).isEmpty)
        #expect(puppet.arm())
        #expect(error(puppet, SYMBIOTIC_SYMCALL_PING) == nil)
    }

    @Test func aHandlerThatFaultsFailsOnlyTheCall() throws {
        let puppet = try armed()
        guard case .faulted(let vector, let code, let rip, _) = error(puppet, SymCallPuppet.Call.invalidOpcode) else {
            Issue.record("no fault")
            return
        }
        #expect(vector == 6 && code == 0)
        #expect(rip > SymCallPuppet.high + SymCallPuppet.Place.handler && rip < SymCallPuppet.high + SymCallPuppet.Place.faults)
        guard case .faulted(14, let bits, _, let address) = error(puppet, SymCallPuppet.Call.pageFault, SymCallValues(0x12_3456_7000))
        else {
            Issue.record("no page fault")
            return
        }
        #expect(bits == 0 && address == 0x12_3456_7000)
        guard case .faulted(13, _, _, _) = error(puppet, SymCallPuppet.Call.generalProtection) else {
            Issue.record("no general protection fault")
            return
        }
        #expect(puppet.counter("faulted") == 3)
        #expect(puppet.word(SymCallPuppet.Place.localPage + 0x110) == 3)
        #expect(error(puppet, SYMBIOTIC_SYMCALL_PING) == nil)
        expectAlive(puppet)
    }

    @Test func aHandlersErrorIsReturned() throws {
        let puppet = try armed()
        #expect(error(puppet, SymCallPuppet.Call.error) == .failed(code: 4))
        #expect(puppet.counter("failed") == 1)
    }

    @Test func aHaltedProcessorAnswersAndStaysHalted() throws {
        let puppet = try armed()
        puppet.begin(.halt)
        usleep(50_000)
        for _ in 0..<50 {
            #expect(try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) == SymCallTests.values)
        }
        usleep(20_000)
        #expect(puppet.word(SymCallPuppet.Place.marker) == 0, "a symcall ended the HLT")
        #expect(puppet.answer(timeout: 0) == nil)
    }

    @Test func aStringOfDoorbellsEndsAndTheGuestContinues() throws {
        let service = DoorbellService(number: 0x30)
        let puppet = try armed(services: [service])
        try puppet.memory.write(SymCallPuppet.Place.text, bytes: [UInt8](repeating: 0x30, count: 4096))
        for count: UInt32 in [1, 2, 63, 64, 65, 1000, 3000] {
            #expect(puppet.perform(.stringDoorbell, count) == 1)
            #expect(puppet.word(SymCallPuppet.Place.registers) == 0)
            #expect(puppet.word(SymCallPuppet.Place.registers + 8) == SymCallPuppet.Place.text + UInt64(count))
        }
        #expect(puppet.counter("doorbells") + puppet.counter("doorbells_ignored") >= 7)
        #expect(error(puppet, 0) == nil)
        expectAlive(puppet)
    }
}
