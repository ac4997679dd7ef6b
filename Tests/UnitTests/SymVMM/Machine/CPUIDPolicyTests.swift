// SPDX-License-Identifier: Apache-2.0

import CKVM
import Testing

@testable import SymVMM

@Suite struct CPUIDPolicyTests {
    private func leaf(_ function: UInt32, _ policy: CPUIDPolicy) throws -> kvm_cpuid_entry2 {
        try #require(policy.entries(apicID: 1).first { $0.function == function })
    }

    private func policy(nested: Bool = false, pmu: Bool = false) -> CPUIDPolicy {
        func all(_ function: UInt32) -> kvm_cpuid_entry2 {
            kvm_cpuid_entry2(
                function: function, index: 0, flags: 0, eax: .max, ebx: .max, ecx: .max, edx: .max, padding: (0, 0, 0))
        }
        return CPUIDPolicy(
            supported: [0, 1, 7, 0xa, 0x1c, 0x23, 0x8000_0001, 0x8000_000a, 0x8000_0022].map(all), vcpuCount: 3, hasDeadlineTimer: true,
            ownLeaves: SymbioticCPUID.leaves(features: 0), isNestingOffered: nested, isPMUOffered: pmu)
    }

    private func isEmpty(_ function: UInt32, _ policy: CPUIDPolicy) throws -> Bool {
        let leaf = try leaf(function, policy)
        return leaf.eax | leaf.ebx | leaf.ecx | leaf.edx == 0
    }

    @Test func guestsRunGuestsOnlyWhenAsked() throws {
        let usual = policy(pmu: true)
        #expect(try leaf(1, usual).ecx == ~(1 << 5))
        #expect(try leaf(0x8000_0001, usual).ecx == ~(1 << 2))
        #expect(try isEmpty(0x8000_000a, usual))
        let nested = policy(nested: true, pmu: true)
        #expect(try leaf(1, nested).ecx == .max && leaf(0x8000_0001, nested).ecx == .max && leaf(0x8000_000a, nested).edx == .max)
    }

    @Test func performanceCountersAreSeenOnlyWhenAsked() throws {
        let (usual, asked) = (policy(nested: true), policy(nested: true, pmu: true))
        for function in [0xa, 0x1c, 0x23, 0x8000_0022] as [UInt32] {
            #expect(try isEmpty(function, usual) && leaf(function, asked).eax == .max)
        }
        #expect(try leaf(1, usual).ecx == ~0x8014 && leaf(1, usual).edx == ~(1 << 21))
        #expect(try leaf(7, usual).edx == ~(1 << 19) && leaf(7, asked).edx == .max)
        #expect(try leaf(0x8000_0001, usual).ecx == ~0x1180_0400 && leaf(0x8000_0001, asked).ecx == .max)
    }

    @Test func theProcessorHasAName() throws {
        func named(_ brand: String, maximum: UInt32 = 0x8000_0008) -> [UInt8] {
            let all = [0x8000_0000, 0x8000_0002, 0x8000_0003, 0x8000_0004].map { function in
                kvm_cpuid_entry2(
                    function: function, index: 0, flags: 0, eax: function == 0x8000_0000 ? maximum : 0, ebx: 0, ecx: 0, edx: 0,
                    padding: (0, 0, 0))
            }
            var policy = CPUIDPolicy(supported: all, vcpuCount: 1, hasDeadlineTimer: false, ownLeaves: [])
            policy.brand = Array(brand.utf8)
            let leaves = policy.entries(apicID: 0).filter { (0x8000_0002...0x8000_0004).contains($0.function) }
            #expect(Set(leaves.map(\.function)).count == leaves.count)
            return leaves.sorted { $0.function < $1.function }.flatMap { [$0.eax, $0.ebx, $0.ecx, $0.edx] }
                .flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) } }
        }
        #expect(named("A processor") == Array("A processor".utf8) + [UInt8](repeating: 0, count: 37))
        let long = String(repeating: "x", count: 60)
        #expect(named(long) == Array(long.utf8.prefix(47)) + [0])
        #expect(named("old", maximum: 0x8000_0001).isEmpty)
        #expect((1...47).contains(HostProcessor.brand.count))
    }

    @Test func threadsOfACoreAreNumbered() throws {
        let all = [0, 0xb, 0x8000_001e].map { function in
            kvm_cpuid_entry2(
                function: function, index: 0, flags: 0, eax: 0x20, ebx: 0, ecx: 0, edx: 0, padding: (0, 0, 0))
        }
        let policy = CPUIDPolicy(supported: all, vcpuCount: 4, hasDeadlineTimer: false, ownLeaves: [], threadsPerCore: 2)
        let topology = policy.entries(apicID: 3).filter { $0.function == 0xb }
        #expect(topology.map(\.eax) == [1, 2, 0] && topology.map(\.ebx) == [2, 4, 0])
        let amd = policy.entries(apicID: 3).first { $0.function == 0x8000_001e }
        #expect(amd?.eax == 3 && amd?.ebx == 0x101)
    }

    @Test func coresAreNumbered() throws {
        let policy = policy()
        #expect(try leaf(1, policy).ebx == 0x0103_ffff)
        let topology = policy.entries(apicID: 1).filter { $0.function == 0xb }
        #expect(topology.map(\.eax) == [0, 2, 0])
        #expect(topology.map(\.ebx) == [1, 3, 0])
        #expect(topology.allSatisfy { $0.edx == 1 })
    }
}
