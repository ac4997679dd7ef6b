// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// The KVM system device, /dev/kvm. It reports what this host supports and creates virtual machines.
struct KVMSystem: ~Copyable, Sendable {
    let descriptor: OwnedFileDescriptor

    /// Opens the device and checks for API version 12, the only one in use (KVM API 4.1).
    init(path: String = "/dev/kvm") throws(VMMError) {
        // SAFETY: the string lives for the call.
        let number = unsafe ckvm_open(path)
        guard number >= 0 else { throw VMMError(call: "open \(path)", errno: -number, advice: KVMSystem.openAdvice(-number)) }
        let descriptor = OwnedFileDescriptor(owning: number)
        let version = try VMMError.check(ckvm_get_api_version(number), "KVM_GET_API_VERSION", advice: "\(path) is not a KVM device")
        guard version == 12 else {
            throw VMMError(call: "KVM_GET_API_VERSION", errno: ENOTSUP, advice: "API version \(version), but symvmm needs 12")
        }
        self.descriptor = descriptor
    }

    /// Returns the answer of KVM_CHECK_EXTENSION: 0 when the kernel lacks the extension (KVM API 4.4).
    func check(_ capability: Int32) -> Int32 {
        max(0, ckvm_check_extension(descriptor.rawValue, UInt(capability)))
    }

    /// Creates an empty virtual machine (KVM API 4.2).
    func createVirtualMachine() throws(VMMError) -> KVMVirtualMachine {
        let size = try VMMError.check(ckvm_get_vcpu_mmap_size(descriptor.rawValue), "KVM_GET_VCPU_MMAP_SIZE")
        let number = try VMMError.check(ckvm_create_vm(descriptor.rawValue), "KVM_CREATE_VM", advice: KVMSystem.createAdvice)
        return KVMVirtualMachine(owning: OwnedFileDescriptor(owning: number), runPageSize: Int(size))
    }

    /// The CPUID leaves that KVM can offer a guest on this host (KVM API 4.46).
    func supportedCPUID() throws(VMMError) -> [kvm_cpuid_entry2] {
        var entries = [kvm_cpuid_entry2](repeating: kvm_cpuid_entry2(), count: 256)
        // SAFETY: the array has the capacity that is passed.
        let result = unsafe ckvm_get_supported_cpuid(descriptor.rawValue, &entries, UInt32(entries.count))
        let count = try VMMError.check(result, "KVM_GET_SUPPORTED_CPUID")
        return Array(entries.prefix(Int(count)))
    }

    private static let createAdvice = "hardware virtualization may be in use by another hypervisor, or disabled in the firmware"

    private static func openAdvice(_ errno: Int32) -> String {
        switch errno {
        case ENOENT:
            "this host has no KVM: load kvm_intel or kvm_amd, or enable virtualization in the firmware (or nested virtualization, in a VM)"
        case EACCES, EPERM: "not permitted: join the group that owns it (usually: adduser USER kvm), or run as root"
        case ENODEV, ENXIO: "the device node is there but no KVM module is loaded: load kvm_intel or kvm_amd"
        default: "see 'symvmm doctor'"
        }
    }
}
