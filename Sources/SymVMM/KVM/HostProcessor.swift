// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// What the host's processor can do.
public enum HostProcessor {
    /// `svm` (AMD) or `vmx` (Intel), as /proc/cpuinfo has it; nil when the processor has neither, and KVM, if there is one, is in software.
    public static let hardwareVirtualization: String? = {
        let flags = firstFlags()
        return ["svm", "vmx"].first { flags.contains(Substring($0)) }
    }()

    /// Bits of a physical address (CPUID 0x80000008), as guests see them too; 36 where the processor does not say.
    static let physicalAddressBits = Int(ckvm_physical_address_bits())

    private static func firstFlags() -> [Substring] {
        guard let descriptor = try? FileDescriptor.open("/proc/cpuinfo", O_RDONLY) else { return [] }
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 4096) { buffer, filled in
            // SAFETY: the buffer has this many bytes, and only what was read counts as filled.
            filled = max(0, unsafe read(descriptor.rawValue, buffer.baseAddress, 4096))
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        return lines.first { $0.hasPrefix("flags") }?.split(separator: " ") ?? []
    }
}
