// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// The CPUID leaves of a vCPU: those that KVM supports on this host, with the VM's topology and the hypervisor bit.
struct CPUIDPolicy {
    /// The leaves that KVM supports (KVM_GET_SUPPORTED_CPUID).
    let supported: [kvm_cpuid_entry2]
    /// Number of vCPUs, all cores of one package.
    let vcpuCount: Int
    /// The local APIC's timer has a TSC-deadline mode (KVM_CAP_TSC_DEADLINE_TIMER).
    let hasDeadlineTimer: Bool
    /// symvmm's leaves, from 0x40000100.
    let ownLeaves: [kvm_cpuid_entry2]
    /// Offers VMX and SVM. Hidden by default: nested virtualization exposes much of the host's kernel to the guest, and a symcall injected while L2
    /// runs would corrupt L1 and L2.
    var isNestingOffered = false
    /// Offers performance counters. Hidden by default: they let the guest measure other users of the core, and expose more of the host's kernel.
    var isPMUOffered = false

    /// vCPUs of one core: 1, or 2 for SMT with an even number of vCPUs. A single vCPU is a core of one thread.
    var threadsPerCore = 1
    /// The processor's name, 48 bytes ending with a zero byte: the host's, which KVM does not pass on. The guest sees the host's family, model and
    /// features in any case.
    var brand = HostProcessor.brand

    private enum Leaf {
        static let features: UInt32 = 0x1
        static let amdFeatures: UInt32 = 0x8000_0001
        static let extendedMaximum: UInt32 = 0x8000_0000
        static let brand: ClosedRange<UInt32> = 0x8000_0002...0x8000_0004
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

    /// The leaves of the vCPU with this APIC ID.
    func entries(apicID: UInt32) -> [kvm_cpuid_entry2] {
        // KVM returns the host's topology; topology(_:) makes the VM's.
        var entries = supported.filter {
            $0.function != Leaf.topology && $0.function != Leaf.topologyV2 && !Leaf.brand.contains($0.function)
        }
        for index in entries.indices { adjust(&entries[index], apicID) }
        if supported.contains(where: { $0.function == 0 && $0.eax >= Leaf.topology }) { entries += topology(apicID) }
        if supported.contains(where: { $0.function == Leaf.extendedMaximum && $0.eax >= Leaf.brand.upperBound }) {
            entries += Leaf.brand.map(brandLeaf)
        }
        return entries + ownLeaves
    }

    /// 16 bytes of the name.
    private func brandLeaf(_ function: UInt32) -> kvm_cpuid_entry2 {
        let start = Int(function - Leaf.brand.lowerBound) * 16
        func word(_ index: Int) -> UInt32 {
            (0..<4).reduce(0) { word, byte in
                let offset = start + index * 4 + byte
                return word | UInt32(offset < min(brand.count, 47) ? brand[offset] : 0) << (8 * UInt32(byte))
            }
        }
        var entry = kvm_cpuid_entry2()
        entry.function = function
        (entry.eax, entry.ebx, entry.ecx, entry.edx) = (word(0), word(1), word(2), word(3))
        return entry
    }

    private func adjust(_ entry: inout kvm_cpuid_entry2, _ apicID: UInt32) {
        switch entry.function {
        case Leaf.features:
            entry.ebx = entry.ebx & 0x0000_ffff | UInt32(vcpuCount) << 16 | apicID << 24
            entry.ecx |= 1 << 31  // a hypervisor is present
            if hasDeadlineTimer { entry.ecx |= 1 << 24 }
            if vcpuCount > 1 { entry.edx |= 1 << 28 }  // HTT: the count in EBX is valid
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
            // Instruction-based sampling; core, north bridge and L3 counters.
            if !isPMUOffered { entry.ecx &= ~(1 << 10 | 1 << 23 | 1 << 24 | 1 << 28) }
        case Leaf.amdVirtualization:
            if !isNestingOffered { (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0) }
        case Leaf.amdSizes:
            entry.ecx = entry.ecx & ~0xf0ff | UInt32(vcpuCount - 1) | UInt32(topologyBits) << 12
        case Leaf.amdTopology:
            entry.eax = apicID
            entry.ebx = apicID >> UInt32(threadBits) | UInt32(threads - 1) << 8  // core ID, threads of the core less 1
            entry.ecx = 0
        default:
            break
        }
    }

    /// Bits of the APIC ID that number the cores of the package.
    private var topologyBits: Int {
        vcpuCount <= 1 ? 0 : Int.bitWidth - (vcpuCount - 1).leadingZeroBitCount
    }

    private var threads: Int { vcpuCount > 1 ? threadsPerCore : 1 }

    /// Bits of the APIC ID that number the threads of a core.
    private var threadBits: Int { threads > 1 ? 1 : 0 }

    /// Leaf 0xB: the threads of a core, then all threads, whose cores are in one package (SDM volume 2A, CPUID).
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
            level(0, shift: threadBits, count: threads, type: 1),
            level(1, shift: topologyBits, count: vcpuCount, type: 2),
            level(2, shift: 0, count: 0, type: 0),
        ]
    }
}
