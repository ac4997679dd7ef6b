// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import SymbioticABI

/// The CPUID leaves by which a guest finds the symbiotic interface (docs/ABI.md, section 1).
enum SymbioticCPUID {
    /// Makes the leaves.
    static func leaves(features: UInt32) -> [kvm_cpuid_entry2] {
        var signature = kvm_cpuid_entry2()
        signature.function = SYMBIOTIC_CPUID_SIGNATURE
        signature.eax = SYMBIOTIC_CPUID_FEATURES
        signature.ebx = SYMBIOTIC_SIGNATURE_EBX
        signature.ecx = SYMBIOTIC_SIGNATURE_ECX
        signature.edx = SYMBIOTIC_SIGNATURE_EDX
        var interface = kvm_cpuid_entry2()
        interface.function = SYMBIOTIC_CPUID_FEATURES
        interface.eax = SYMBIOTIC_ABI_VERSION
        interface.ebx = features
        interface.ecx = SYMBIOTIC_MSR_BASE
        interface.edx = SYMBIOTIC_CPUID_PORTS
        return [signature, interface]
    }
}
