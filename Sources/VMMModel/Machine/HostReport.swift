// SPDX-License-Identifier: Apache-2.0

/// What this host has for virtual machines, and what follows from it: `symvmm doctor`.
public struct HostReport: Codable, Sendable, Equatable {
    /// An extension of KVM.
    public struct Capability: Codable, Sendable, Equatable {
        /// The kernel's name, without `KVM_CAP_`.
        public let name: String
        /// Whether symvmm runs no guest without it.
        public let isNeeded: Bool
        /// Whether the symbiotic interface is not offered without it.
        public let isNeededBySymbiosis: Bool
        /// What the kernel answered: 0 when it does not have it.
        public let value: Int32
        /// Whether the answer is enough: of some extensions, symvmm uses certain parts.
        public let isEnough: Bool
        /// What it is for, or what is missing without it.
        public let purpose: String

        enum CodingKeys: String, CodingKey {
            case name, value, purpose
            case isNeeded = "needed"
            case isNeededBySymbiosis = "needed_by_symbiotic"
            case isEnough = "enough"
        }

        /// Describes an extension.
        package init(
            name: String, isNeeded: Bool, isNeededBySymbiosis: Bool = false, value: Int32, isEnough: Bool? = nil, purpose: String
        ) {
            self.name = name
            self.isNeeded = isNeeded
            self.isNeededBySymbiosis = isNeededBySymbiosis
            self.value = value
            self.isEnough = isEnough ?? (value != 0)
            self.purpose = purpose
        }
    }

    /// What is wrong with /dev/kvm, with advice; absent when it works.
    public let kvmProblem: String?
    /// The API's version: 12; absent when /dev/kvm does not work.
    public let kvmAPIVersion: Int?
    /// `svm` (AMD) or `vmx` (Intel), as /proc/cpuinfo has it; absent when the processor has neither.
    public let hardwareVirtualization: String?
    /// The extensions that matter; empty when /dev/kvm does not work.
    public let capabilities: [Capability]
    /// Whether /dev/net/tun can be opened, which `--net` needs.
    public let tapDevices: Bool
    /// Memory of the host in MiB.
    public let memoryMebibytes: UInt64
    /// Memory that is available (MemAvailable), in MiB.
    public let availableMemoryMebibytes: UInt64
    /// Whether a Linux guest can run.
    public let linuxGuests: Bool
    /// Whether a symbiotic guest can offer SymCall.
    public let symbioticGuests: Bool
    /// What follows, one sentence each.
    public let advice: [String]

    enum CodingKeys: String, CodingKey {
        case capabilities, advice
        case kvmProblem = "kvm_problem"
        case kvmAPIVersion = "kvm_api_version"
        case hardwareVirtualization = "hardware_virtualization"
        case tapDevices = "tap_devices"
        case memoryMebibytes = "memory_mib"
        case availableMemoryMebibytes = "memory_available_mib"
        case linuxGuests = "linux_guests"
        case symbioticGuests = "symbiotic_guests"
    }

    /// Draws the conclusions.
    package init(
        kvmProblem: String?, capabilities: [Capability], hardwareVirtualization: String?, tapDevices: Bool, memory: UInt64,
        available: UInt64
    ) {
        self.kvmProblem = kvmProblem
        self.capabilities = capabilities
        self.hardwareVirtualization = hardwareVirtualization
        self.tapDevices = tapDevices
        memoryMebibytes = memory
        availableMemoryMebibytes = available
        kvmAPIVersion = kvmProblem == nil ? 12 : nil
        let missing = capabilities.filter { $0.isNeeded && !$0.isEnough }.map(\.name)
        let hasAll = kvmProblem == nil && missing.isEmpty
        linuxGuests = hasAll && hardwareVirtualization != nil
        symbioticGuests = hasAll && capabilities.allSatisfy { $0.isEnough || !$0.isNeededBySymbiosis }
        var advice: [String] = []
        if let kvmProblem { advice.append("No guest can run: \(kvmProblem).") }
        if !missing.isEmpty {
            advice.append("No guest can run: this kernel's KVM lacks \(missing.joined(separator: ", ")). Use Linux 5.10 or later.")
        }
        if hasAll, hardwareVirtualization == nil {
            advice.append(
                "The processor offers neither svm nor vmx: this is a KVM in software. Small guests run; Linux guests do not. Run them in the lab:"
                    + " scripts/lab COMMAND.")
        }
        if hasAll, !symbioticGuests { advice.append("Guests run, but without the symbiotic interface: --symbiotic off.") }
        if !tapDevices {
            advice.append("No network for guests: /dev/net/tun cannot be opened (load tun; run as root or with CAP_NET_ADMIN).")
        }
        if memory > 0, available < 256 { advice.append("Little memory is available: \(available) MiB.") }
        self.advice = advice
    }
}
