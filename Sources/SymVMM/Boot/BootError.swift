// SPDX-License-Identifier: Apache-2.0

internal import VMMBase
internal import VMMModel

/// Why a guest cannot be started from the files it was given. Each has one line for the user, in `description`.
public enum BootError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kernel cannot be opened or read; `errno` is the kernel's error number.
    case kernelUnreadable(path: String, errno: Int32)
    /// The initial RAM disk cannot be opened or read; `errno` is the kernel's error number.
    case initrdUnreadable(path: String, errno: Int32)
    /// A directory, device, pipe or socket was given for the kernel or the initial RAM disk.
    case notARegularFile(path: String)
    /// A file has no bytes.
    case emptyFile(path: String)
    /// The kernel is a text file.
    case textFile(path: String)
    /// The kernel is neither a bzImage nor an ELF executable.
    case notAKernel(path: String)
    /// A bzImage or ELF file ends before what its header promises: `needed` bytes, the file has `found`.
    case truncatedKernel(path: String, needed: UInt64, found: UInt64)
    /// A bzImage or ELF header contradicts itself; `detail` says in what.
    case malformedKernel(path: String, detail: String)
    /// The kernel has no 64-bit entry, or the ELF file is a 32-bit one.
    case not64Bit(path: String)
    /// The ELF file is for another processor; `machine` is its e_machine.
    case wrongMachine(path: String, machine: UInt16)
    /// The ELF file is a relocatable object, a shared library or a core file; `type` is its e_type.
    case notExecutable(path: String, type: UInt16)
    /// The bzImage speaks a boot protocol older than 2.12 (Linux 3.8).
    case protocolTooOld(path: String, version: UInt16)
    /// An ELF segment does not lie in the guest's memory.
    case segmentOutsideMemory(path: String, address: UInt64, byteCount: UInt64, memory: UInt64)
    /// An ELF segment lies where the boot data or the ACPI tables go.
    case segmentInReservedArea(path: String, address: UInt64, byteCount: UInt64)
    /// The entry point does not lie in a segment that the identity mapping reaches.
    case entryOutsideSegments(path: String, entry: UInt64)
    /// The kernel needs memory up to `needed` bytes from address 0; the guest has `memory`.
    case memoryTooSmall(needed: UInt64, memory: UInt64)
    /// The command line has `byteCount` bytes, the kernel takes `limit`.
    case commandLineTooLong(byteCount: Int, limit: Int)
    /// The command line has a zero byte in it.
    case commandLineHasZeroByte
    /// The initial RAM disk has `byteCount` bytes and finds no room beside the kernel in `memory` bytes.
    case initrdTooLarge(path: String, byteCount: UInt64, memory: UInt64)
    /// The VM was ended while its files were loaded.
    case loadingEnded(path: String)
    /// Loading took longer than `LoadingLimit.seconds`; `path` is the file that was being read.
    case loadingTooSlow(path: String)
    /// The ACPI tables cannot describe a machine with so many vCPUs.
    case vcpuCountOutOfRange(Int)
    /// A device lies outside the 32-bit address space, or over the interrupt controllers or over memory.
    case deviceOutsideHole(address: UInt64, byteCount: UInt64)
    /// An interrupt number that the IO-APIC's 24 inputs do not have, or that belongs to the machine itself.
    case interruptOutOfRange(gsi: UInt32)
    /// More devices than the area for the ACPI tables has room for.
    case tooManyDevices(Int)

    /// One line for the user.
    public var description: String {
        switch self {
        case .kernelUnreadable(let path, let errno):
            "cannot read kernel \(path): \(KVMError.message(errno))"
        case .initrdUnreadable(let path, let errno):
            "cannot read initrd \(path): \(KVMError.message(errno))"
        case .notARegularFile(let path):
            "\(path) is not a regular file"
        case .emptyFile(let path):
            "\(path) is empty"
        case .textFile(let path):
            "\(path) is a text file, not a kernel: give a Linux bzImage (vmlinuz) or an x86-64 ELF executable (vmlinux)"
        case .notAKernel(let path):
            "\(path) is not a kernel: give a Linux bzImage (vmlinuz) or an x86-64 ELF executable (vmlinux)"
        case .truncatedKernel(let path, let needed, let found):
            "kernel \(path) is truncated: its header promises \(needed) bytes, the file has \(found)"
        case .malformedKernel(let path, let detail):
            "kernel \(path) is damaged: \(detail)"
        case .not64Bit(let path):
            "kernel \(path) is 32-bit only: give a 64-bit kernel"
        case .wrongMachine(let path, let machine):
            "kernel \(path) is for another processor (ELF machine \(machine)): give an x86-64 kernel"
        case .notExecutable(let path, let type):
            "\(path) is an ELF file but not an executable (type \(type)): give a vmlinux or a bzImage"
        case .protocolTooOld(let path, let version):
            "kernel \(path) is too old: boot protocol \(version >> 8).\(version & 0xff), 2.12 (Linux 3.8) or later is needed"
        case .segmentOutsideMemory(let path, let address, let byteCount, let memory):
            "kernel \(path) has a segment outside memory: \(byteCount) bytes at \(hex(address)), the guest has \(memory) bytes"
        case .segmentInReservedArea(let path, let address, let byteCount):
            "kernel \(path) has a segment where the boot data goes: \(byteCount) bytes at \(hex(address)); link it at 0x100000 or above"
        case .entryOutsideSegments(let path, let entry):
            "kernel \(path) has its entry point \(hex(entry)) outside its segments or above 4 GiB"
        case .memoryTooSmall(let needed, let memory):
            "not enough guest memory: the kernel needs \(mebibytes(needed)) MiB to start, the guest has \(memory >> 20) MiB"
        case .commandLineTooLong(let byteCount, let limit):
            "the kernel command line is too long: \(byteCount) bytes, the kernel takes \(limit)"
        case .commandLineHasZeroByte:
            "the kernel command line has a zero byte in it"
        case .initrdTooLarge(let path, let byteCount, let memory):
            "initrd \(path) is too large: \(mebibytes(byteCount)) MiB do not fit beside the kernel in \(memory >> 20) MiB of guest memory"
        case .loadingEnded(let path):
            "the VM was ended while \(path) was being loaded"
        case .loadingTooSlow(let path):
            "\(path) could not be loaded within \(LoadingLimit.seconds) s: give a smaller file, or one on faster storage"
        case .vcpuCountOutOfRange(let count):
            "\(count) vCPUs: give \(MachineLimits.vcpuCount.lowerBound) to \(MachineLimits.vcpuCount.upperBound)"
        case .deviceOutsideHole(let address, let byteCount):
            "a device of \(byteCount) bytes at \(hex(address)) lies outside the hole for devices"
        case .interruptOutOfRange(let gsi):
            "interrupt \(gsi) is not free for a device"
        case .tooManyDevices(let count):
            "\(count) devices: the ACPI tables have no room for so many"
        }
    }

    private func hex(_ value: UInt64) -> String {
        "0x" + String(value, radix: 16)
    }

    /// Rounded up, so that the answer is enough.
    private func mebibytes(_ byteCount: UInt64) -> UInt64 {
        (byteCount >> 20) &+ (byteCount & 0xf_ffff == 0 ? 0 : 1)
    }

    /// Runs accesses to guest memory at places that were found to lie in it, or to need more of it than there is.
    static func memoryTooSmall<Value>(
        for needed: UInt64, in memory: GuestMemory, _ body: () throws(GuestAddressError) -> Value
    ) throws(BootError) -> Value {
        do throws(GuestAddressError) {
            return try body()
        } catch {
            throw BootError.memoryTooSmall(needed: needed, memory: memory.byteCount)
        }
    }
}
