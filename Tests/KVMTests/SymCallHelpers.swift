// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM

func armed(vcpus: Int = 1, services: [SymbioticService] = []) throws -> SymCallPuppet {
    let puppet = try SymCallPuppet(vcpus: vcpus, services: services)
    try #require(puppet.arm(), "the guest could not arm")
    return puppet
}

/// What a symcall from outside ends with.
func error(_ puppet: SymCallPuppet, _ number: UInt32, _ values: SymCallValues = SymCallValues(), vcpu: Int? = 0) -> SymCallError? {
    do throws(SymCallError) {
        _ = try puppet.machine.symcall(number, values, vcpu: vcpu)
        return nil
    } catch {
        return error
    }
}

func expectAlive(_ puppet: SymCallPuppet) {
    #expect(puppet.perform(.outLoop, 3) == 1, "the guest does not go on")
    #expect(puppet.machine.state == .running)
}
