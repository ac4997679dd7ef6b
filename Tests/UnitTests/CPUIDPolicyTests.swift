// SPDX-License-Identifier: Apache-2.0

import CKVM
import Testing

@testable import SymVMM

@Suite struct CPUIDPolicyTests {
    private func leaf(_ function: UInt32, _ policy: CPUIDPolicy) throws -> kvm_cpuid_entry2 {
        try #require(policy.entries(apicID: 1).first { $0.function == function })
    }

    private func policy(symbiotic: Bool) -> CPUIDPolicy {
        func all(_ function: UInt32) -> kvm_cpuid_entry2 {
            kvm_cpuid_entry2(
                function: function, index: 0, flags: 0, eax: .max, ebx: .max, ecx: .max, edx: .max, padding: (0, 0, 0))
        }
        return CPUIDPolicy(
            supported: [all(0), all(1), all(0x8000_0001), all(0x8000_000a)], vcpuCount: 3, hasDeadlineTimer: true,
            ownLeaves: symbiotic ? SymbioticCPUID.leaves(features: 0) : [])
    }

    @Test func aSymbioticGuestRunsNoGuests() throws {
        let policy = policy(symbiotic: true)
        #expect(try leaf(1, policy).ecx == ~(1 << 5))
        #expect(try leaf(0x8000_0001, policy).ecx == ~(1 << 2))
        let svm = try leaf(0x8000_000a, policy)
        #expect(svm.eax | svm.ebx | svm.ecx | svm.edx == 0)
    }

    @Test func otherGuestsMay() throws {
        let policy = policy(symbiotic: false)
        #expect(try leaf(1, policy).ecx == .max)
        #expect(try leaf(0x8000_0001, policy).ecx == .max)
        #expect(try leaf(0x8000_000a, policy).edx == .max)
    }

    @Test func coresAreNumbered() throws {
        let policy = policy(symbiotic: false)
        #expect(try leaf(1, policy).ebx == 0x0103_ffff)
        let topology = policy.entries(apicID: 1).filter { $0.function == 0xb }
        #expect(topology.map(\.eax) == [0, 2, 0])
        #expect(topology.map(\.ebx) == [1, 3, 0])
        #expect(topology.allSatisfy { $0.edx == 1 })
    }
}
