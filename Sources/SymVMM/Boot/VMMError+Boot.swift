// SPDX-License-Identifier: Apache-2.0

internal import SystemPackage
internal import VMMBase
internal import VMMModel

/// Errors of the boot loader. All have the kind user, except the lack of hardware virtualization.
extension VMMError {
    /// The kernel cannot be opened or read; `errno` is the kernel's error number.
    static func kernelUnreadable(path: String, errno: Errno?) -> VMMError {
        VMMError(.user, call: "cannot read kernel \(path)", errno: errno)
    }

    /// The initial RAM disk cannot be opened or read; `errno` is the kernel's error number.
    static func initrdUnreadable(path: String, errno: Errno?) -> VMMError {
        VMMError(.user, call: "cannot read initrd \(path)", errno: errno)
    }

    /// A directory, device, pipe or socket was given for the kernel or the initial RAM disk.
    static func notARegularFile(path: String) -> VMMError {
        .user("\(path) is not a regular file")
    }

    /// A file has no bytes.
    static func emptyFile(path: String) -> VMMError {
        .user("\(path) is empty")
    }

    /// The kernel is a text file.
    static func textFile(path: String) -> VMMError {
        .user("\(path) is a text file, not a kernel: give a Linux bzImage (vmlinuz) or an x86-64 ELF executable (vmlinux)")
    }

    /// The kernel is neither a bzImage nor an ELF executable.
    static func notAKernel(path: String) -> VMMError {
        .user("\(path) is not a kernel: give a Linux bzImage (vmlinuz) or an x86-64 ELF executable (vmlinux)")
    }

    /// A bzImage or ELF file is shorter than its header states: `needed` bytes, the file has `found`.
    static func truncatedKernel(path: String, needed: UInt64, found: UInt64) -> VMMError {
        .user("kernel \(path) is truncated: by its header it has \(needed) bytes, the file has \(found)")
    }

    /// A bzImage or ELF header contradicts itself; `detail` describes the contradiction.
    static func malformedKernel(path: String, detail: String) -> VMMError {
        .user("kernel \(path) is damaged: \(detail)")
    }

    /// The kernel has no 64-bit entry, or the ELF file is a 32-bit one.
    static func not64Bit(path: String) -> VMMError {
        .user("kernel \(path) is 32-bit only: give a 64-bit kernel")
    }

    /// The ELF file is for another processor; `machine` is its e_machine.
    static func wrongMachine(path: String, machine: UInt16) -> VMMError {
        .user("kernel \(path) is for another processor (ELF machine \(machine)): give an x86-64 kernel")
    }

    /// The ELF file is a relocatable object, a shared library or a core file; `type` is its e_type.
    static func notExecutable(path: String, type: UInt16) -> VMMError {
        .user("\(path) is an ELF file but not an executable (type \(type)): give a vmlinux or a bzImage")
    }

    /// The bzImage has a boot protocol older than 2.12 (Linux 3.8).
    static func protocolTooOld(path: String, version: UInt16) -> VMMError {
        .user("kernel \(path) is too old: boot protocol \(version >> 8).\(version & 0xff), 2.12 (Linux 3.8) or later is needed")
    }

    /// An ELF segment does not lie in the guest's memory.
    static func segmentOutsideMemory(path: String, address: UInt64, byteCount: UInt64, memory: UInt64) -> VMMError {
        .user(
            "kernel \(path) has a segment outside memory: \(counted(byteCount, "byte")) at \(hex(address)), the guest has \(memory) bytes")
    }

    /// An ELF segment overlaps the boot data or the ACPI tables.
    static func segmentInReservedArea(path: String, address: UInt64, byteCount: UInt64) -> VMMError {
        .user(
            "kernel \(path) has a segment over the boot data: \(counted(byteCount, "byte")) at \(hex(address)); link it at 0x100000 or above"
        )
    }

    /// The entry point does not lie in a segment that the identity map covers.
    static func entryOutsideSegments(path: String, entry: UInt64) -> VMMError {
        .user("kernel \(path) has its entry point \(hex(entry)) outside its segments or above 4 GiB")
    }

    /// The kernel needs memory up to `needed` bytes from address 0; the guest has `memory`.
    static func memoryTooSmall(needed: UInt64, memory: UInt64) -> VMMError {
        .user("not enough guest memory: the kernel needs \(mebibytes(needed)) MiB to start, the guest has \(memory >> 20) MiB")
    }

    /// The command line has `byteCount` bytes, the kernel takes `limit`.
    static func commandLineTooLong(byteCount: Int, limit: Int) -> VMMError {
        .user("the kernel command line is too long: \(byteCount) bytes, the kernel takes \(limit)")
    }

    /// The command line contains a zero byte.
    static var commandLineHasZeroByte: VMMError {
        .user("the kernel command line contains a zero byte")
    }

    /// The initial RAM disk of `byteCount` bytes does not fit beside the kernel in `memory` bytes.
    static func initrdTooLarge(path: String, byteCount: UInt64, memory: UInt64) -> VMMError {
        .user(
            "initrd \(path) is too large: \(mebibytes(byteCount)) MiB do not fit beside the kernel in \(memory >> 20) MiB of guest memory")
    }

    /// The VM ended while its files were being loaded.
    static func loadingEnded(path: String) -> VMMError {
        .user("the VM ended while \(path) was being loaded")
    }

    /// Loading took longer than `LoadingLimit.seconds`; `path` is the file that was being read.
    static func loadingTooSlow(path: String) -> VMMError {
        .user("\(path) could not be loaded within \(LoadingLimit.seconds) s: give a smaller file, or one on faster storage")
    }

    /// The ACPI tables cannot describe a machine with this many vCPUs.
    static func vcpuCountOutOfRange(_ count: Int) -> VMMError {
        .user("\(count) vCPUs: give \(MachineLimits.vcpuCount.lowerBound) to \(MachineLimits.vcpuCount.upperBound)")
    }

    /// A device lies outside the hole below 4 GiB, or overlaps the interrupt controllers.
    static func deviceOutsideHole(address: UInt64, byteCount: UInt64) -> VMMError {
        .bug("a device of \(byteCount) bytes at \(hex(address)) lies outside the hole for devices")
    }

    /// The IO-APIC does not have this input, or the machine itself uses it.
    static func interruptOutOfRange(gsi: UInt32) -> VMMError {
        .bug("interrupt \(gsi) is not free for a device")
    }

    /// The ACPI tables of this many devices exceed their area.
    static func tooManyDevices(_ count: Int) -> VMMError {
        .bug("\(count) devices: the ACPI tables have no room for this many")
    }

    /// A Linux guest on a host without hardware virtualization: KVM emulates in software there, and the kernel would hang early.
    static var noHardwareVirtualization: VMMError {
        .host(
            "this host's processor has neither svm nor vmx, so its KVM cannot run a Linux kernel: use a host with hardware virtualization, or the "
                + "lab (scripts/lab)")
    }

    private static func hex(_ value: UInt64) -> String {
        "0x" + String(value, radix: 16)
    }

    /// MiB, rounded up, so that this much memory is enough.
    private static func mebibytes(_ byteCount: UInt64) -> UInt64 {
        (byteCount >> 20) &+ (byteCount & 0xf_ffff == 0 ? 0 : 1)
    }

    /// Turns a `GuestAddressError` of `body` into `memoryTooSmall`.
    static func memoryTooSmall<Value>(
        for needed: UInt64, in memory: GuestMemory, _ body: () throws(GuestAddressError) -> Value
    ) throws(VMMError) -> Value {
        do throws(GuestAddressError) {
            return try body()
        } catch {
            throw VMMError.memoryTooSmall(needed: needed, memory: memory.byteCount)
        }
    }
}
