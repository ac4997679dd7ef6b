// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// What the host's processor can do.
enum HostProcessor {
    /// `svm` (AMD) or `vmx` (Intel), from /proc/cpuinfo; nil when the processor has neither. KVM, if present, is then a software implementation.
    ///
    /// Where that file is hidden, as in a jail, it is what CPUID says, which does not know whether the firmware has switched it off.
    static let hardwareVirtualization: String? = {
        guard let flags = firstFlags() else {
            let found = ckvm_hardware_virtualization()
            return found == 1 ? "svm" : found == 2 ? "vmx" : nil
        }
        return ["svm", "vmx"].first { flags.contains(Substring($0)) }
    }()

    /// Width of a physical address in bits (CPUID 0x80000008), the same in guests; 36 where the processor does not report it.
    static let physicalAddressBits = Int(ckvm_physical_address_bits())

    /// The processor's name (CPUID 0x80000002 to 4), at most 47 bytes; a name of symvmm's where it has none.
    static let brand: [UInt8] = {
        var bytes = [UInt8](repeating: 0, count: 48)
        // SAFETY: the array has the 48 bytes that the call writes.
        let isKnown = unsafe ckvm_processor_name(&bytes) >= 0
        let name = bytes.prefix(47).prefix { $0 >= 0x20 && $0 < 0x7f }
        return isKnown && name.contains { $0 != 0x20 } ? Array(name) : Array("symvmm virtual processor".utf8)
    }()

    /// The flags of the first processor; nil if the file cannot be opened.
    private static func firstFlags() -> [Substring]? {
        guard let descriptor = try? OwnedFileDescriptor.open("/proc/cpuinfo", O_RDONLY) else { return nil }
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 4096) { buffer, filled in
            // SAFETY: the buffer has this many bytes, and only what was read counts as filled.
            filled = max(0, unsafe read(descriptor.rawValue, buffer.baseAddress, 4096))
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        return lines.first { $0.hasPrefix("flags") }?.split(separator: " ") ?? []
    }
}
