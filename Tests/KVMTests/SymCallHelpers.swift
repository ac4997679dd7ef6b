// SPDX-License-Identifier: Apache-2.0

import SymbioticABI
import Testing

@testable import SymVMM

func armed(vcpus: Int = 1, services: [SymbioticService] = []) throws -> SymCallPuppet {
    let puppet = try SymCallPuppet(vcpus: vcpus, services: services)
    try #require(puppet.arm(), "the guest could not arm")
    return puppet
}

/// The failure of a symcall from outside; nil if it succeeds.
func error(_ puppet: SymCallPuppet, _ number: UInt32, _ values: SymCallValues = SymCallValues(), vcpu: Int? = 0) -> SymCallFailure? {
    do throws(SymCallFailure) {
        _ = try puppet.machine.symcall(number, values, vcpu: vcpu)
        return nil
    } catch {
        return error
    }
}

/// Makes symcalls from outside until the guest has done its command; returns how many.
func pingUntilDone(_ puppet: SymCallPuppet) throws -> UInt64 {
    var count: UInt64 = 0
    var answer: UInt32?
    while answer == nil, count < 100_000 {
        _ = try puppet.machine.symcall(SYMBIOTIC_SYMCALL_PING, SymCallTests.values, vcpu: 0)
        count += 1
        if count % 8 == 0 { answer = puppet.answer(timeout: 1) }
    }
    #expect(answer == 1)
    return count
}

/// Makes the guest ring 2,000 doorbells, in each of which the service makes two symcalls, beside symcalls from outside.
func expectEachDoorbellOnce(_ puppet: SymCallPuppet, _ command: SymCallPuppet.Command, _ service: DoorbellService) throws {
    puppet.begin(command, [2000])
    let count = try pingUntilDone(puppet)
    #expect(puppet.changedRegisters(rax: 0x30).isEmpty)
    #expect(puppet.counter("doorbells") == 2000)
    #expect(puppet.word(SymCallPuppet.Place.handlerCalls) == puppet.counter("completed"))
    #expect(service.calls.count == 2000)
    #expect(service.calls.allSatisfy { $0 })
    #expect(puppet.counter("completed") == count + 4000)
}

func expectAlive(_ puppet: SymCallPuppet) {
    #expect(puppet.perform(.outLoop, 3) == 1, "the guest does not continue")
    #expect(puppet.machine.state == .running)
}
