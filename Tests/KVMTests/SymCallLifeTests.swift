// SPDX-License-Identifier: Apache-2.0

import Glibc
import SymbioticABI
import Testing

@testable import SymVMM
@testable import VMMBase

/// Symcalls while the machine is paused, killed and reset, on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SymCallLifeTests {
    @Test func pauseHoldsSymcallsAndResumeLetsThemGoOn() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let calls = CallsInFlight()
        let askers = try (0..<3).map { number in
            try VMMBase.Thread(name: "asker\(number)") {
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

    @Test func aPauseRightBehindAResumeHoldsToo() throws {
        let puppet = try armed()
        puppet.begin(.registerLoop, [300_000])
        for _ in 0..<3000 {
            puppet.machine.pause()
            puppet.machine.resume()
        }
        puppet.machine.pause()
        let held = puppet.word(SymCallPuppet.Place.counter)
        usleep(1000)
        #expect(puppet.word(SymCallPuppet.Place.counter) == held)
        puppet.machine.resume()
        #expect(puppet.answer(timeout: 30_000) == 1)
        #expect(puppet.changedRegisters(rax: 0xf0).isEmpty)
    }

    @Test func aMachineIsKilledInTheMiddleOfSymcalls() throws {
        for round in 0..<10 {
            let puppet = try armed()
            let machine = puppet.machine
            let askers = try (0..<2).map { number in
                try VMMBase.Thread(name: "asker\(number)") {
                    while machine.state == .running {
                        let call = round % 2 == 0 ? SYMBIOTIC_SYMCALL_PING : SymCallPuppet.Call.spin
                        _ = try? machine.symcall(call, SymCallTests.values, vcpu: 0)
                    }
                }
            }
            usleep(UInt32(round) * 3000 + 1000)
            machine.kill()
            let started = ContinuousClock.now
            #expect(machine.wait() == .killed)
            let elapsed = ContinuousClock.now - started
            #expect(elapsed < .seconds(3), "\(elapsed) until the end")
            for asker in askers { asker.join() }
        }
    }

    @Test func aGuestMayResetTheMachineWhileItIsAsked() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let asker = try VMMBase.Thread(name: "asker") {
            while machine.state == .running { _ = try? machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) }
        }
        usleep(10_000)
        puppet.begin(.reset)
        #expect(machine.wait() == .reset)
        asker.join()
    }
}
