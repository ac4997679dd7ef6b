// SPDX-License-Identifier: Apache-2.0

import SymbioticABI
import Testing

@testable import SymVMM

/// The fast doorbell, where a symcall changes only the general registers, on this host's /dev/kvm.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SymCallFastDoorbellTests {
    private func puppet(_ service: SymbioticService, fastDoorbell command: SymCallPuppet.Command = .fastDoorbell) throws -> SymCallPuppet {
        let puppet = try SymCallPuppet(services: [service])
        try #require(puppet.arm(fastDoorbell: command), "the guest could not arm")
        return puppet
    }

    @Test func pingsAtTheFastDoorbellEchoAndLeaveTheRegistersAlone() throws {
        let service = DoorbellService()
        let puppet = try puppet(service)
        for round in 1...100 {
            #expect(puppet.perform(.fastDoorbell, 0x30) == 1)
            #expect(puppet.changedRegisters(rax: 0x30).isEmpty)
            #expect(service.calls.count == round)
            // Exits in between, so that KVM_RUN does not always give the registers with the exit.
            if round % 4 == 0 { #expect(puppet.perform(.outLoop, 50) == 1) }
        }
        #expect(service.calls.allSatisfy { $0 })
        #expect(service.arguments?.rbx == SymCallPuppet.pattern(.rbx))
        #expect(puppet.counter("doorbells") == 100)
        #expect(puppet.counter("completed") == 200)
        #expect(puppet.writes(to: 0xe6) == 100)
        #expect(puppet.word(SymCallPuppet.Place.marker) == 0)
    }

    @Test func onlyTheRegisteredInstructionIsTheFastDoorbell() throws {
        let service = CallingService()
        service.numbers = [SYMBIOTIC_SYMCALL_PING, SymCallPuppet.Call.needsDoorbell]
        let puppet = try puppet(service)
        for (command, isFast) in [
            (SymCallPuppet.Command.fastDoorbell, true), (.doorbell, false), (.fastDoorbell, true), (.doorbell, false), (.doorbell, false),
        ] {
            #expect(puppet.perform(command, 0x30) == 1)
            #expect(service.isAtFastDoorbell == isFast)
            #expect(service.errors == [nil, nil])
            #expect(puppet.changedRegisters(rax: 0x30).isEmpty)
        }
        // An OUT that is no longer registered is not the fast doorbell either.
        #expect(puppet.arm())
        #expect(puppet.perform(.fastDoorbell, 0x30) == 1)
        #expect(!service.isAtFastDoorbell)
        #expect(service.errors == [nil, nil])
    }

    @Test func eachDoorbellIsExecutedOnceWithSymcallsInsideAndFromOutside() throws {
        let service = DoorbellService()
        let puppet = try puppet(service, fastDoorbell: .fastDoorbellLoop)
        try expectEachDoorbellOnce(puppet, .fastDoorbellLoop, service)
    }

    @Test func faultsAndErrorsAreTheCallsOwn() throws {
        let service = CallingService()
        service.numbers = [
            SymCallPuppet.Call.invalidOpcode, SymCallPuppet.Call.error, SymCallPuppet.Call.generalProtection, SymCallPuppet.Call.doorbell,
            3,
            SYMBIOTIC_SYMCALL_PING,
        ]
        let puppet = try puppet(service)
        #expect(puppet.perform(.fastDoorbell, 0x30) == 1)
        #expect(service.isAtFastDoorbell)
        try #require(service.errors.count == 6)
        guard case .faulted(6, 0, _, _) = service.errors[0], case .faulted(13, _, _, _) = service.errors[2] else {
            Issue.record("\(service.errors)")
            return
        }
        #expect(service.errors[1] == .failed(code: 4))
        #expect(service.errors[3] == nil)
        #expect(service.errors[4] == .unknown)
        #expect(service.errors[5] == nil)
        #expect(puppet.counter("doorbells_ignored") == 1)
        #expect(puppet.changedRegisters(rax: 0x30).isEmpty)
        expectAlive(puppet)
    }

    @Test(arguments: [SymCallPuppet.Call.spin, SymCallPuppet.Call.halt]) func aHandlerThatNeverReturnsIsCutOff(number: UInt32) throws {
        let service = CallingService()
        service.numbers = [number, SYMBIOTIC_SYMCALL_PING]
        let puppet = try puppet(service)
        #expect(puppet.perform(.fastDoorbell, 0x30) == 1)
        #expect(service.isAtFastDoorbell)
        #expect(service.errors == [.timedOut, .disabled])
        #expect(puppet.changedRegisters(rax: 0x30).isEmpty)
        #expect(puppet.counter("timed_out") == 1)
        #expect(puppet.arm(fastDoorbell: .fastDoorbell))
        service.numbers = [SYMBIOTIC_SYMCALL_PING]
        #expect(puppet.perform(.fastDoorbell, 0x30) == 1)
        #expect(service.errors == [nil])
        expectAlive(puppet)
    }
}
