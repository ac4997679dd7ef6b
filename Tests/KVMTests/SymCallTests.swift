// SPDX-License-Identifier: Apache-2.0

import CKVM
import Glibc
import Testing

@testable import SymVMM

/// Symcalls into a guest without an operating system, on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SymCallTests {
    private static let values = SymCallValues(1, .max, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0, 5)

    private func armed(vcpus: Int = 1, services: [SymbioticService] = []) throws -> SymCallPuppet {
        let puppet = try SymCallPuppet(vcpus: vcpus, services: services)
        try #require(puppet.arm(), "the guest could not arm")
        return puppet
    }

    /// What a symcall from outside ends with.
    private func error(_ puppet: SymCallPuppet, _ number: UInt32, _ values: SymCallValues = SymCallValues(), vcpu: Int? = 0) -> SymCallError? {
        do throws(SymCallError) {
            _ = try puppet.machine.symcall(number, values, vcpu: vcpu)
            return nil
        } catch {
            return error
        }
    }

    private func expectAlive(_ puppet: SymCallPuppet) {
        #expect(puppet.perform(.outLoop, 3) == 1, "the guest does not go on")
        #expect(puppet.machine.state == .running)
    }

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
        var count = 0
        var answer: UInt32?
        while answer == nil, count < 100_000 {
            _ = try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0)
            count += 1
            if count % 8 == 0 { answer = puppet.answer(timeout: 1) }
        }
        #expect(answer == 1)
        #expect(puppet.writes(to: 0x80) == 20_000)
        #expect(puppet.changedRegisters(rax: 0xf0).isEmpty)
        #expect(count > 50)
    }

    @Test func eachDoorbellIsExecutedOnceWithSymcallsInsideAndFromOutside() throws {
        let service = DoorbellService(number: 0x30)
        let puppet = try armed(services: [service])
        puppet.begin(.doorbellLoop, [2000])
        var count: UInt64 = 0
        var answer: UInt32?
        while answer == nil, count < 100_000 {
            _ = try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0)
            count += 1
            if count % 8 == 0 { answer = puppet.answer(timeout: 1) }
        }
        #expect(answer == 1)
        #expect(puppet.changedRegisters(rax: 0x30).isEmpty)
        #expect(puppet.counter("doorbells") == 2000)
        #expect(puppet.word(SymCallPuppet.Place.handlerCalls) == puppet.counter("completed"))
        #expect(service.calls.count == 2000)
        #expect(service.calls.allSatisfy { $0 })
        #expect(puppet.counter("completed") == count + 4000)
    }

    @Test func aCallWithinACallIsRefusedAndADoorbellInAHandlerIsIgnored() throws {
        let service = DoorbellService(number: 0)
        let puppet = try armed(services: [service])
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

    @Test func fromUserModeThePortsCountForNothing() throws {
        let service = DoorbellService(number: 0)
        let puppet = try armed(services: [service])
        puppet.set(SymCallPuppet.Place.flag, 0)
        puppet.begin(.user)
        for _ in 0..<200 where puppet.counter("doorbells_ignored") < 3 || puppet.counter("returns_ignored") < 2 { usleep(10_000) }
        #expect(puppet.counter("doorbells_ignored") == 3)
        #expect(puppet.counter("returns_ignored") == 2)
        #expect(puppet.counter("doorbells") == 0)
        // A symcall interrupts user mode, and puts it back there.
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
        let started = ckvm_ticks()
        #expect(error(puppet, number) == .timedOut)
        let milliseconds = (ckvm_ticks() - started) / puppet.machine.processors[0].handle.ticksPerMillisecond
        #expect((400...1500).contains(milliseconds), "\(milliseconds) ms")
        #expect(error(puppet, SYMBIOTIC_SYMCALL_PING) == .switchedOff)
        #expect(puppet.counter("timed_out") == 1)
        #expect(puppet.word(SymCallPuppet.Place.globalPage + 0x100) >> 32 == 1)
        #expect(puppet.word(SymCallPuppet.Place.localPage + 0x108) == 1)
        // The guest goes on where it was, and its next module may be called again.
        puppet.set(SymCallPuppet.Place.flag, 1)
        #expect(puppet.answer() == 1)
        #expect(puppet.changedRegisters(rax: 0xf0).isEmpty)
        #expect(puppet.arm())
        #expect(error(puppet, SYMBIOTIC_SYMCALL_PING) == nil)
    }

    @Test func aHandlerThatFaultsIsAnErrorAndNothingElse() throws {
        let puppet = try armed()
        guard case .faulted(let vector, let code, let rip, _) = error(puppet, SymCallPuppet.Call.invalidOpcode) else {
            Issue.record("no fault")
            return
        }
        #expect(vector == 6 && code == 0)
        #expect(rip > SymCallPuppet.high + SymCallPuppet.Place.handler && rip < SymCallPuppet.high + SymCallPuppet.Place.faults)
        guard case .faulted(14, let bits, _, let address) = error(puppet, SymCallPuppet.Call.pageFault, SymCallValues(0x12_3456_7000)) else {
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

    @Test func aHandlersErrorIsHandedOn() throws {
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
        // The second vCPU has not been started by the guest.
        #expect(error(puppet, 0, vcpu: 1) == .notArmed)
        #expect(error(puppet, 0, vcpu: 2) == .noSuchProcessor)
        #expect(error(puppet, 0, vcpu: -1) == .noSuchProcessor)
        #expect(error(puppet, 3) == .unknown)
        #expect(error(puppet, .max) == .unknown)
        #expect(error(puppet, SymCallPuppet.Call.needsDoorbell) == .needsDoorbell)
        #expect(puppet.perform(.doorbell, 2) == 1)
        #expect(error(puppet, 0) == .leaving)
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
        let thread = try SymVMM.Thread(name: "asker") {
            do throws(SymCallError) {
                finished.note(try machine.symcall(SymCallPuppet.Call.needsDoorbell, SymCallTests.values) == SymCallTests.values)
            } catch {
                finished.note(false)
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
                (SYMBIOTIC_MSR_GLOBAL_PAGE...SYMBIOTIC_MSR_IDT).contains(index) || index == SYMBIOTIC_MSR_FS_BASE ? 0 : nil
            #expect(puppet.read(index) == expected, "MSR 0x\(String(index, radix: 16))")
        }
        #expect(error(puppet, 0) == .noModule)
        // Nothing is written to the pages any more.
        try puppet.memory.zero(SymCallPuppet.Place.globalPage, byteCount: 8192)
        #expect(puppet.perform(.doorbell, 0) == 1)
        #expect(error(puppet, 0, vcpu: nil) == .noModule)
        #expect(try puppet.memory.read(SymCallPuppet.Place.globalPage, byteCount: 8192).allSatisfy { $0 == 0 })
    }

    @Test func aHandlerThatDropsOrDisarmsItselfReturnsOnceMore() throws {
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
        #expect(!puppet.write(0x53c, 0))
        #expect(puppet.counter("registrations_refused") == 10)
        #expect(puppet.word(SymCallPuppet.Place.globalPage + 0x100) == UInt64(SYMBIOTIC_ABI_VERSION))
        #expect(puppet.word(SymCallPuppet.Place.localPage + 0x100) == 1)
        #expect(error(puppet, 0) == nil)
    }

    @Test func anUnmappedEntryOrStackIsAnErrorOfTheCall() throws {
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

    @Test func aStringOfDoorbellsEndsAndLeavesTheGuestWhereItWas() throws {
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

    @Test func pauseHoldsSymcallsAndResumeLetsThemGoOn() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let calls = CallsInFlight()
        let askers = try (0..<3).map { number in
            try SymVMM.Thread(name: "asker\(number)") {
                while !calls.isOver {
                    do throws(SymCallError) {
                        calls.note(try machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) == SymCallTests.values)
                    } catch {
                        if error != .notRunning { calls.note(false) }
                        usleep(500)
                    }
                }
            }
        }
        puppet.begin(.registerLoop, [300_000])
        for _ in 0..<40 {
            machine.pause()
            let held = puppet.word(SymCallPuppet.Place.counter)
            let calls = puppet.word(SymCallPuppet.Place.handlerCalls)
            usleep(1000)
            #expect(puppet.word(SymCallPuppet.Place.counter) == held)
            #expect(puppet.word(SymCallPuppet.Place.handlerCalls) == calls)
            #expect(error(puppet, 0) == .notRunning)
            machine.resume()
            usleep(3000)
        }
        calls.end()
        for asker in askers { asker.join() }
        #expect(calls.count > 40)
        #expect(calls.good == calls.count)
        #expect(puppet.answer() == 1)
        #expect(puppet.changedRegisters(rax: 0xf0).isEmpty)
    }

    @Test func aMachineIsKilledInTheMiddleOfSymcalls() throws {
        for round in 0..<10 {
            let puppet = try armed()
            let machine = puppet.machine
            let askers = try (0..<2).map { number in
                try SymVMM.Thread(name: "asker\(number)") {
                    while machine.state == .running {
                        let call = round % 2 == 0 ? SYMBIOTIC_SYMCALL_PING : SymCallPuppet.Call.spin
                        _ = try? machine.symcall(call, SymCallTests.values, vcpu: 0)
                    }
                }
            }
            usleep(UInt32(round) * 3000 + 1000)
            machine.kill()
            let started = ckvm_ticks()
            #expect(machine.wait() == .killed)
            let milliseconds = (ckvm_ticks() - started) / machine.processors[0].handle.ticksPerMillisecond
            #expect(milliseconds < 300, "\(milliseconds) ms until the end")
            for asker in askers { asker.join() }
        }
    }

    @Test func aGuestMayResetTheMachineWhileItIsAsked() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let asker = try SymVMM.Thread(name: "asker") {
            while machine.state == .running { _ = try? machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) }
        }
        usleep(10_000)
        puppet.begin(.reset)
        #expect(machine.wait() == .reset)
        asker.join()
    }
}
