// SPDX-License-Identifier: Apache-2.0

/// What a virtual machine is made of. Checked by `VirtualMachine.init`; changed only before that.
public struct MachineConfiguration: Sendable, Equatable {
    /// Name of the VM: letters, digits, `-`, `_` and `.`, at most 64, not beginning with `.` or `-`.
    public var name: String
    /// Number of vCPUs (`MachineLimits.vcpuCount`).
    public var vcpuCount: Int
    /// Guest memory in bytes, 1 MiB to 1 TiB, a multiple of 4096.
    public var memoryByteCount: UInt64
    /// Path of the kernel: a bzImage or an ELF executable for x86-64.
    public var kernelPath: String
    /// Path of the initial RAM disk.
    public var initrdPath: String?
    /// The kernel's command line, without what symvmm adds.
    public var commandLine: String
    /// Block devices, in the order in which the guest finds them.
    public var drives: [DriveConfiguration]
    /// Network interfaces, in the order in which the guest finds them.
    public var networkInterfaces: [NetworkInterfaceConfiguration]
    /// Where the serial console goes.
    public var console: ConsoleConfiguration
    /// Whether the guest is offered the symbiotic interface.
    public var symbiotic: Bool
    /// Whether the guest may run guests of its own (VMX, SVM); not together with `symbiotic`.
    public var nested = false
    /// Whether the guest sees performance counters.
    public var pmu = false

    /// A machine with the smallest useful settings: 1 vCPU, 256 MiB, console to nowhere.
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

/// A virtio block device on a raw file or a host's block device.
public struct DriveConfiguration: Sendable, Equatable {
    /// Identifier, unique in the VM, also the serial number that the guest reads (at most 20 bytes; virtio 1.2, 5.2.6).
    public var id: String
    /// Path of the raw file or block device.
    public var path: String
    /// The guest may only read.
    public var isReadOnly: Bool
    /// Bytes of a sector, 512 or 4096; nil takes a block device's own, and 512 for a file.
    public var sectorSize: Int?
    /// The guest's root file system is on it: it is the first disk, and the kernel's command line says so (`MachineResources.launch()`).
    public var isRootDevice = false
    /// Of a root device: the partition that the command line names, instead of the whole disk.
    public var partitionUUID: String?

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
    /// Identifier, unique in the VM.
    public var id: String
    /// Name of a tap device that exists.
    public var tap: String
    /// The guest's MAC address; derived from the VM's name and the identifier when nil.
    public var mac: MACAddress?

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

    /// Reads `aa:bb:cc:dd:ee:ff`; nil when it is not six pairs of hexadecimal digits or is a group (multicast) address.
    public init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 6, parts.allSatisfy({ $0.utf8.count == 2 && $0.allSatisfy(\.isHexDigit) }) else { return nil }
        let bytes = parts.compactMap { UInt8($0, radix: 16) }
        guard bytes.count == 6, bytes[0] & 1 == 0 else { return nil }
        self.bytes = bytes
    }

    /// A locally administered address made from a seed: the same seed gives the same address (FNV-1a over its UTF-8).
    public init(derivedFrom seed: String) {
        let hash = seed.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        bytes = [0x52, 0x54] + (0..<4).map { UInt8(truncatingIfNeeded: hash >> (8 * UInt64($0))) }
    }

    /// `aa:bb:cc:dd:ee:ff`, lower case.
    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}

/// Where the serial console's bytes go and come from.
public enum ConsoleConfiguration: Sendable, Equatable {
    /// Standard output and standard input.
    case stdio
    /// Output is thrown away, there is no input.
    case none
    /// Output is appended to a file or written to a FIFO, there is no input. A file has a limit in bytes, at which it is renamed and another
    /// one begun (0: none).
    case file(path: String, limit: UInt64 = defaultLimit)
    /// A new pseudo-terminal, whose name is printed.
    case pseudoTerminal

    /// Bytes of a file, unless another limit is given.
    public static let defaultLimit: UInt64 = 64 << 20
    /// The least limit.
    package static let leastLimit: UInt64 = 64 << 10
}
