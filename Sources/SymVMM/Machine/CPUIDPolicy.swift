// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// The CPUID leaves a vCPU shows: what KVM supports on this host, with the vCPU's own topology and the hypervisor's presence.
struct CPUIDPolicy {
    /// What KVM offers (KVM_GET_SUPPORTED_CPUID).
    let supported: [kvm_cpuid_entry2]
    /// Number of vCPUs, all cores of one package.
    let vcpuCount: Int
    /// The local APIC's timer has a TSC-deadline mode (KVM_CAP_TSC_DEADLINE_TIMER).
    let hasDeadlineTimer: Bool
    /// Leaves of symvmm's own, from 0x40000100.
    let ownLeaves: [kvm_cpuid_entry2]
    /// Whether the guest may run guests of its own (VMX, SVM). Much code of the host's kernel that hostile guests can reach; and a symcall that is
    /// injected while the guest's guest runs would corrupt both.
    var isNestingOffered = false
    /// Whether the guest sees performance counters: they measure what others do on the same core, and are as much code again.
    var isPMUOffered = false

    private enum Leaf {
        static let features: UInt32 = 0x1
        static let amdFeatures: UInt32 = 0x8000_0001
        static let amdVirtualization: UInt32 = 0x8000_000a
        static let performance: UInt32 = 0xa
        static let topology: UInt32 = 0xb
        static let lastBranches: UInt32 = 0x1c
        static let performanceExtensions: UInt32 = 0x23
        static let extendedFeatures: UInt32 = 0x7
        static let amdPerformance: UInt32 = 0x8000_0022
        static let topologyV2: UInt32 = 0x1f
        static let hypervisor: ClosedRange<UInt32> = 0x4000_0000...0x4fff_ffff
        static let amdSizes: UInt32 = 0x8000_0008
        static let amdTopology: UInt32 = 0x8000_001e
    }

    /// The leaves for the vCPU with this APIC id.
    func entries(apicID: UInt32) -> [kvm_cpuid_entry2] {
        // A topology leaf is made anew below: KVM fills in the host's.
        var entries = supported.filter { $0.function != Leaf.topology && $0.function != Leaf.topologyV2 }
        for index in entries.indices { adjust(&entries[index], apicID) }
        if supported.contains(where: { $0.function == 0 && $0.eax >= Leaf.topology }) { entries += topology(apicID) }
        return entries + ownLeaves
    }

    private func adjust(_ entry: inout kvm_cpuid_entry2, _ apicID: UInt32) {
        switch entry.function {
        case Leaf.features:
            entry.ebx = entry.ebx & 0x0000_ffff | UInt32(vcpuCount) << 16 | apicID << 24
            entry.ecx |= 1 << 31  // a hypervisor is present
            if hasDeadlineTimer { entry.ecx |= 1 << 24 }
            if vcpuCount > 1 { entry.edx |= 1 << 28 }  // the count in EBX is valid
            if !isNestingOffered { entry.ecx &= ~(1 << 5) }  // VMX
            if !isPMUOffered {
                entry.ecx &= ~(1 << 2 | 1 << 4 | 1 << 15)  // DTES64, DS-CPL, PDCM
                entry.edx &= ~(1 << 21)  // DS
            }
        case Leaf.extendedFeatures:
            if !isPMUOffered, entry.index == 0 { entry.edx &= ~(1 << 19) }  // architectural LBR
        case Leaf.performance, Leaf.lastBranches, Leaf.performanceExtensions, Leaf.amdPerformance:
            if !isPMUOffered { (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0) }
        case Leaf.amdFeatures:
            if !isNestingOffered { entry.ecx &= ~(1 << 2) }  // SVM
            // Instruction-based sampling; counters of the core, the north bridge and the last-level cache.
            if !isPMUOffered { entry.ecx &= ~(1 << 10 | 1 << 23 | 1 << 24 | 1 << 28) }
        case Leaf.amdVirtualization:
            if !isNestingOffered { (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0) }
        case Leaf.amdSizes:
            entry.ecx = entry.ecx & ~0xf0ff | UInt32(vcpuCount - 1) | UInt32(topologyBits) << 12
        case Leaf.amdTopology:
            entry.eax = apicID
            entry.ebx = apicID  // core id; one thread a core
            entry.ecx = 0
        default:
            break
        }
    }

    /// Bits of the APIC id that number the cores of the package.
    private var topologyBits: Int {
        vcpuCount <= 1 ? 0 : Int.bitWidth - (vcpuCount - 1).leadingZeroBitCount
    }

    /// Leaf 0xB: one thread a core, all cores in one package (SDM volume 2A, CPUID).
    private func topology(_ apicID: UInt32) -> [kvm_cpuid_entry2] {
        func level(_ index: UInt32, shift: Int, count: Int, type: UInt32) -> kvm_cpuid_entry2 {
            var entry = kvm_cpuid_entry2()
            entry.function = Leaf.topology
            entry.index = index
            entry.flags = UInt32(KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
            entry.eax = UInt32(shift)
            entry.ebx = UInt32(count)
            entry.ecx = index | type << 8
            entry.edx = apicID
            return entry
        }
        return [
            level(0, shift: 0, count: 1, type: 1),
            level(1, shift: topologyBits, count: vcpuCount, type: 2),
            level(2, shift: 0, count: 0, type: 0),
        ]
    }
}
