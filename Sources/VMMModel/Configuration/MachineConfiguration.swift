// SPDX-License-Identifier: Apache-2.0

/// The configuration of a virtual machine. `VirtualMachine.init` checks it.
public struct MachineConfiguration: Sendable, Equatable {
    /// Name of the VM: letters, digits, `-`, `_` and `.`, at most 64, not beginning with `.` or `-`.
    public var name: String
    /// Number of vCPUs (`MachineLimits.vcpuCount`).
    public var vcpuCount: Int
    /// Guest memory in bytes, 1 MiB to 1 TiB, a multiple of 4096.
    public var memoryByteCount: UInt64
    /// Path of the kernel: a bzImage or an ELF executable for x86-64.
    public var kernelPath: String
    /// Path of the initial RAM disk; nil for none.
    public var initrdPath: String?
    /// The kernel command line, without the parameters that symvmm appends.
    public var commandLine: String
    /// Block devices, in guest device order.
    public var drives: [DriveConfiguration]
    /// Network interfaces, in guest device order.
    public var networkInterfaces: [NetworkInterfaceConfiguration]
    /// The output and input of the serial console.
    public var console: ConsoleConfiguration
    /// Whether symvmm offers the guest the symbiotic interface.
    public var symbiotic: Bool
    /// Whether the guest may use VMX or SVM (nested virtualization). Cannot be combined with `symbiotic`.
    public var nested = false
    /// Whether symvmm gives the guest performance counters.
    public var pmu = false
    /// Whether two vCPUs are the threads of one core (SMT); then `vcpuCount` is 1 or even.
    public var smt = false
    /// The host pages that back guest memory.
    public var hugePages = HugePages.none
    /// Whether the machine has a keyboard, on which `sendControlAltDelete()` types. Otherwise Linux finds no keyboard controller and does not look for one.
    public var keyboard = false
    /// Whether a write to port 0xf4 ends the run with the written value, for guests that test something.
    public var testDevice = false

    /// A machine with 1 vCPU, 256 MiB, the symbiotic interface, no devices and no console.
    public init(name: String, kernelPath: String) {
        self.name = name
        self.kernelPath = kernelPath
        vcpuCount = 1
        memoryByteCount = 256 << 20
        initrdPath = nil
        commandLine = ""
        drives = []
        networkInterfaces = []
        console = .none
        symbiotic = true
    }
}

/// The host pages that back guest memory.
public enum HugePages: String, Sendable, CaseIterable {
    /// The host's default: pages of 4 KiB, or what the host makes of them.
    case none = "None"
    /// Transparent huge pages (MADV_HUGEPAGE of madvise(2)).
    case transparent = "Transparent"
    /// Pages of 2 MiB that the host has reserved (hugetlbfs).
    case hugetlb2M = "2M"
}

/// A virtio block device on a raw file or a host's block device.
public struct DriveConfiguration: Sendable, Equatable {
    /// Identifier, unique among the VM's drives; its first 20 bytes are the disk's serial number (virtio 1.2, 5.2.6).
    public var id: String
    /// Path of the raw file or block device.
    public var path: String
    /// Whether the disk is read-only.
    public var isReadOnly: Bool
    /// Sector size, 512 or 4096; nil for a block device's own size, or 512 for a file.
    public var sectorSize: Int?
    /// Whether the disk has the guest's root file system. The commands `run` and `serve` then make it the first disk and append root= to the
    /// command line; the engine itself ignores this field.
    public var isRootDevice = false
    /// For a root device: the PARTUUID of the partition for root=; nil for the whole disk. The engine ignores this field too.
    public var partitionUUID: String?
    /// Whether the file is taken as raw even if it has the header of another image format, which is otherwise refused.
    public var isRaw = false
    /// Firecracker's field; nil if it was not given. Without effect: every disk carries out a flush.
    public var cacheType: CacheType?
    /// Firecracker's field; nil if it was not given. Without effect: a disk's threads work at the same time with either.
    public var engine: IOEngine?
    /// Whether the file may be empty, and the rest of a file that ends inside a sector is left out. Otherwise both are errors.
    public var allowsAnySize = false
    /// Limits of the disk's bandwidth and requests; nil: none.
    public var rateLimiter: RateLimiterConfiguration?

    /// Values of `cacheType`.
    public enum CacheType: String, Sendable, CaseIterable {
        /// The guest does not flush.
        case unsafe = "Unsafe"
        /// The guest flushes.
        case writeback = "Writeback"
    }

    /// Values of `engine`.
    public enum IOEngine: String, Sendable, CaseIterable {
        /// Calls that wait.
        case sync = "Sync"
        /// io_uring(7).
        case async = "Async"
    }

    /// Describes a drive.
    public init(id: String, path: String, isReadOnly: Bool = false, sectorSize: Int? = nil) {
        self.id = id
        self.path = path
        self.isReadOnly = isReadOnly
        self.sectorSize = sectorSize
    }
}

/// A virtio network interface on a tap device of the host.
public struct NetworkInterfaceConfiguration: Sendable, Equatable {
    /// Identifier, unique among the VM's network interfaces.
    public var id: String
    /// Name of an existing tap device.
    public var tap: String
    /// The guest's MAC address; if nil, symvmm derives it from the VM's name and the identifier.
    public var mac: MACAddress?
    /// The largest packet that the guest shall send and receive, 68 to 65,535 bytes (VIRTIO_NET_F_MTU); nil: the guest's default.
    public var mtu: UInt16?
    /// Limits of what the guest receives; nil: none.
    public var receiveLimiter: RateLimiterConfiguration?
    /// Limits of what the guest sends; nil: none.
    public var transmitLimiter: RateLimiterConfiguration?

    /// Describes a network interface.
    public init(id: String, tap: String, mac: MACAddress? = nil) {
        self.id = id
        self.tap = tap
        self.mac = mac
    }
}

/// An Ethernet address.
public struct MACAddress: Sendable, Equatable, CustomStringConvertible {
    /// The six bytes in the order of transmission.
    public let bytes: [UInt8]

    /// Parses `aa:bb:cc:dd:ee:ff`; nil if it is not six pairs of hexadecimal digits, or is a group (multicast) address.
    public init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 6, parts.allSatisfy({ $0.utf8.count == 2 && $0.allSatisfy(\.isHexDigit) }) else { return nil }
        let bytes = parts.compactMap { UInt8($0, radix: 16) }
        guard bytes.count == 6, bytes[0] & 1 == 0 else { return nil }
        self.bytes = bytes
    }

    /// Derives a locally administered address from a seed (FNV-1a over its UTF-8). The same seed gives the same address.
    public init(derivedFrom seed: String) {
        let hash = seed.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        bytes = [0x52, 0x54] + (0..<4).map { UInt8(truncatingIfNeeded: hash >> (8 * UInt64($0))) }
    }

    /// `aa:bb:cc:dd:ee:ff`, lower case.
    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}

/// Where the serial console reads and writes.
public enum ConsoleConfiguration: Sendable, Equatable {
    /// Standard output and standard input.
    case stdio
    /// No output, no input.
    case none
    /// Appends output to a file or writes it to a FIFO; no input. At `limit` bytes symvmm renames the file to `NAME.1` and starts a new one (0: no
    /// limit).
    case file(path: String, limit: UInt64 = defaultLimit)
    /// A new pseudo-terminal. The command prints its path.
    case pseudoTerminal

    /// Default limit of a console file in bytes.
    public static let defaultLimit: UInt64 = 64 << 20
    /// The smallest limit of a console file, in bytes, other than 0.
    package static let leastLimit: UInt64 = 64 << 10
}
