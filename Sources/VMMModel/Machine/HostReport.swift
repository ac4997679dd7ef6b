// SPDX-License-Identifier: Apache-2.0

/// What the host's kernel offers for the sandbox of a VM's process.
package struct SandboxReport: Codable, Sendable, Equatable {
    /// Whether it has seccomp filters that end a process.
    package let seccompFilters: Bool
    /// The version of its Landlock interface; 0 without Landlock.
    package let landlockVersion: Int

    enum CodingKeys: String, CodingKey {
        case seccompFilters = "seccomp_filters"
        case landlockVersion = "landlock_version"
    }

    /// Describes a kernel.
    package init(seccompFilters: Bool, landlockVersion: Int) {
        self.seccompFilters = seccompFilters
        self.landlockVersion = landlockVersion
    }
}

/// The host's support for virtual machines: `symvmm doctor`.
package struct HostReport: Codable, Sendable, Equatable {
    /// A KVM capability.
    package struct Capability: Codable, Sendable, Equatable {
        /// The kernel's name, without `KVM_CAP_`.
        package let name: String
        /// Whether symvmm requires it for every guest.
        package let isNeeded: Bool
        /// Whether symvmm requires it for the symbiotic interface.
        package let isNeededBySymbiosis: Bool
        /// The result of KVM_CHECK_EXTENSION: 0 if the kernel does not have it.
        package let value: Int32
        /// Whether the value is sufficient: symvmm needs certain bits of some capabilities.
        package let isEnough: Bool
        /// The capability's purpose, or what is unavailable without it.
        package let purpose: String

        enum CodingKeys: String, CodingKey {
            case name, value, purpose
            case isNeeded = "needed"
            case isNeededBySymbiosis = "needed_by_symbiotic"
            case isEnough = "enough"
        }

        /// Describes a capability.
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

    /// Why /dev/kvm does not work, with advice; absent if it works.
    package let kvmProblem: String?
    /// The KVM API version: 12; absent if /dev/kvm does not work.
    package let kvmAPIVersion: Int?
    /// `svm` (AMD) or `vmx` (Intel), from /proc/cpuinfo; absent if the processor has neither.
    package let hardwareVirtualization: String?
    /// The capabilities that symvmm uses; empty if /dev/kvm does not work.
    package let capabilities: [Capability]
    /// Whether /dev/net/tun can be opened, as `--net` requires.
    package let tapDevices: Bool
    /// What the kernel offers for the sandbox; absent if it was not examined.
    package let sandbox: SandboxReport?
    /// Total host memory in MiB.
    package let memoryMebibytes: UInt64
    /// Available host memory (MemAvailable) in MiB.
    package let availableMemoryMebibytes: UInt64
    /// Whether a Linux guest can run.
    package let linuxGuests: Bool
    /// Whether SymCall can be used with a symbiotic guest.
    package let symbioticGuests: Bool
    /// Advice, one sentence each.
    package let advice: [String]

    enum CodingKeys: String, CodingKey {
        case capabilities, advice, sandbox
        case kvmProblem = "kvm_problem"
        case kvmAPIVersion = "kvm_api_version"
        case hardwareVirtualization = "hardware_virtualization"
        case tapDevices = "tap_devices"
        case memoryMebibytes = "memory_mib"
        case availableMemoryMebibytes = "memory_available_mib"
        case linuxGuests = "linux_guests"
        case symbioticGuests = "symbiotic_guests"
    }

    /// Derives which guests can run, and the advice.
    ///
    /// - Parameters:
    ///   - kvmProblem: why /dev/kvm does not work; nil if it works.
    ///   - capabilities: the capabilities that symvmm uses; empty if /dev/kvm does not work.
    ///   - hardwareVirtualization: `svm`, `vmx` or nil.
    ///   - tapDevices: whether /dev/net/tun can be opened.
    ///   - memory: total host memory in MiB; 0 if unknown.
    ///   - available: available host memory in MiB.
    ///   - sandbox: what the kernel offers for the sandbox; nil if it was not examined.
    package init(
        kvmProblem: String?, capabilities: [Capability], hardwareVirtualization: String?, tapDevices: Bool, memory: UInt64,
        available: UInt64, sandbox: SandboxReport? = nil
    ) {
        self.sandbox = sandbox
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
                "The processor has neither svm nor vmx: this KVM is software. Tiny guests run; Linux guests do not. Use the lab for them: scripts/lab"
                    + " COMMAND.")
        }
        if hasAll, !symbioticGuests { advice.append("Guests run without the symbiotic interface: use --symbiotic off.") }
        if !tapDevices {
            advice.append("No network for guests: /dev/net/tun cannot be opened (load tun; run as root or with CAP_NET_ADMIN).")
        }
        if let sandbox, !sandbox.seccompFilters {
            advice.append("The kernel has no seccomp filters: use --sandbox off.")
        }
        if let sandbox, sandbox.seccompFilters, sandbox.landlockVersion == 0 {
            advice.append("The sandbox has no Landlock rules: enable landlock in the kernel (CONFIG_SECURITY_LANDLOCK, lsm=landlock,...).")
        }
        if memory > 0, available < 256 { advice.append("Only \(available) MiB of memory are available.") }
        self.advice = advice
    }
}
