// SPDX-License-Identifier: Apache-2.0

import Glibc
import SymbioticABI
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// Symcalls while the machine is paused, killed and reset, on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SymCallLifeTests {
    @Test func pauseStopsSymcallsAndResumeContinuesThem() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let calls = CallsInFlight()
        let askers = try (0..<3).map { number in
            try VMMBase.Thread(.command, "asker\(number)") {
                while !calls.isOver {
                    do throws(SymCallFailure) {
                        calls.record(try machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) == SymCallTests.values)
                    } catch {
                        if error != .notRunning { calls.record(false) }
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

    @Test func aPauseDirectlyAfterAResumeStopsTheGuest() throws {
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

    /// Without its share, the guest would not continue at all while another request is always there.
    @Test func requestsWithoutAPauseLeaveTheGuestItsShare() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let calls = CallsInFlight()
        let askers = try (0..<6).map { number in
            try VMMBase.Thread(.command, "asker\(number)") {
                while !calls.isOver {
                    let results = try? machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0)
                    calls.record(results == SymCallTests.values)
                }
            }
        }
        puppet.begin(.registerLoop, [3_000_000])
        usleep(100_000)
        let before = machine.exitStatistics()
        let counter = puppet.word(SymCallPuppet.Place.counter)
        let count = calls.count
        while calls.count < count + 300 { usleep(1000) }
        let after = machine.exitStatistics()
        #expect(puppet.word(SymCallPuppet.Place.counter) < counter, "the guest's loop counts down")
        calls.end()
        for asker in askers { asker.join() }
        func handlers(_ statistics: ExitStatistics) -> UInt64 {
            statistics.symbiotic?.symcalls.reduce(0) { $0 + $1.latency.total } ?? 0
        }
        let handlerTime = handlers(after) - handlers(before)
        // Includes the handlers' time in the guest.
        let guestTime = after.vcpus[0].guestNanoseconds - before.vcpus[0].guestNanoseconds
        let ownTime = guestTime - min(guestTime, handlerTime)
        #expect(ownTime * 3 >= handlerTime, "\(ownTime) ns of its own beside \(handlerTime) ns in handlers")
        #expect(calls.good == calls.count)
        machine.kill()
        #expect(machine.wait() == .killed)
    }

    @Test func aMachineIsKilledDuringSymcalls() throws {
        for round in 0..<10 {
            let puppet = try armed()
            let machine = puppet.machine
            let askers = try (0..<2).map { number in
                try VMMBase.Thread(.command, "asker\(number)") {
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

    @Test func aGuestMayResetTheMachineDuringSymcalls() throws {
        let puppet = try armed()
        let machine = puppet.machine
        let asker = try VMMBase.Thread(.command, "asker") {
            while machine.state == .running { _ = try? machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0) }
        }
        usleep(10_000)
        puppet.begin(.reset)
        #expect(machine.wait() == .reset)
        asker.join()
    }
}
