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
    /// Leaves of symvmm's own, from 0x40000100. With them a guest has no virtualization of its own: KVM gives and takes the registers of
    /// whatever the vCPU runs, so a symcall injected while L2 runs would corrupt L1 and L2.
    let ownLeaves: [kvm_cpuid_entry2]

    private enum Leaf {
        static let features: UInt32 = 0x1
        static let amdFeatures: UInt32 = 0x8000_0001
        static let amdVirtualization: UInt32 = 0x8000_000a
        static let topology: UInt32 = 0xb
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
            if !ownLeaves.isEmpty { entry.ecx &= ~(1 << 5) }  // VMX
        case Leaf.amdFeatures:
            if !ownLeaves.isEmpty { entry.ecx &= ~(1 << 2) }  // SVM
        case Leaf.amdVirtualization:
            if !ownLeaves.isEmpty { (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0) }
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
