// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// What this host has for virtual machines, and what follows from it: `symvmm doctor`.
public struct HostReport: Codable, Sendable, Equatable {
    /// An extension of KVM.
    public struct Capability: Codable, Sendable, Equatable {
        /// The kernel's name, without `KVM_CAP_`.
        public let name: String
        /// Whether symvmm runs no guest without it.
        public let isNeeded: Bool
        /// What the kernel answered: 0 when it does not have it.
        public let value: Int32
        /// What it is for, or what is missing without it.
        public let purpose: String

        enum CodingKeys: String, CodingKey {
            case name, value, purpose
            case isNeeded = "needed"
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
    /// Memory that can be had without swapping, in MiB.
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

    /// Looks at the host.
    public static func examine(kvmPath: String = "/dev/kvm") -> HostReport {
        var problem: String?
        var found: [Capability] = []
        do throws(KVMError) {
            let kvm = try Kvm(path: kvmPath)
            found = known.map { Capability(name: $0.name, isNeeded: $0.isNeeded, value: kvm.check($0.number), purpose: $0.purpose) }
        } catch {
            problem = error.description
        }
        let memory = words(of: "/proc/meminfo")
        return HostReport(
            kvmProblem: problem, capabilities: found, hardwareVirtualization: HostProcessor.hardwareVirtualization,
            tapDevices: isOpenable("/dev/net/tun"), memory: kibibytes("MemTotal:", memory) / 1024,
            available: kibibytes("MemAvailable:", memory) / 1024)
    }

    /// Draws the conclusions.
    init(
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
        let missing = capabilities.filter { $0.isNeeded && $0.value == 0 }.map(\.name)
        let hasAll = kvmProblem == nil && missing.isEmpty
        linuxGuests = hasAll && hardwareVirtualization != nil
        let symbioticNames: Set<String> = ["X86_USER_SPACE_MSR", "X86_MSR_FILTER"]
        symbioticGuests = hasAll && capabilities.allSatisfy { $0.value != 0 || !symbioticNames.contains($0.name) }
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

    private static let known: [(name: String, number: Int32, isNeeded: Bool, purpose: String)] = [
        ("IRQCHIP", KVM_CAP_IRQCHIP, true, "interrupt controllers in the kernel"),
        ("USER_MEMORY", KVM_CAP_USER_MEMORY, true, "guest memory"),
        ("SET_TSS_ADDR", KVM_CAP_SET_TSS_ADDR, true, "real mode on Intel processors"),
        ("SET_IDENTITY_MAP_ADDR", KVM_CAP_SET_IDENTITY_MAP_ADDR, true, "real mode on Intel processors"),
        ("EXT_CPUID", KVM_CAP_EXT_CPUID, true, "choosing the guest's CPUID"),
        ("PIT2", KVM_CAP_PIT2, true, "the timer that a kernel boots with"),
        ("IRQFD", KVM_CAP_IRQFD, true, "device interrupts"),
        ("IOEVENTFD", KVM_CAP_IOEVENTFD, true, "device doorbells without an exit to user space"),
        ("MP_STATE", KVM_CAP_MP_STATE, true, "more than one vCPU"),
        ("VCPU_EVENTS", KVM_CAP_VCPU_EVENTS, true, "symcalls"),
        ("IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, true, "stopping a vCPU without a race"),
        ("X86_USER_SPACE_MSR", KVM_CAP_X86_USER_SPACE_MSR, false, "symbiotic guests register by MSRs"),
        ("X86_MSR_FILTER", KVM_CAP_X86_MSR_FILTER, false, "symbiotic guests register by MSRs"),
        ("SYNC_REGS", KVM_CAP_SYNC_REGS, false, "fast symcalls: registers without extra system calls"),
        ("BINARY_STATS_FD", KVM_CAP_BINARY_STATS_FD, false, "statistics of the exits that user space does not see"),
        ("READONLY_MEM", KVM_CAP_READONLY_MEM, false, "memory that a guest cannot write"),
        ("KVMCLOCK_CTRL", KVM_CAP_KVMCLOCK_CTRL, false, "a paused guest takes no lock-up for granted"),
        ("TSC_DEADLINE_TIMER", KVM_CAP_TSC_DEADLINE_TIMER, false, "cheaper guest timers"),
    ]

    /// The report for people.
    public var text: String {
        var facts = TextTable([.words("HOST"), .words("")])
        facts.add(["/dev/kvm", kvmProblem ?? "opens, API version 12"])
        facts.add(["hardware virtualization", hardwareVirtualization ?? "none (neither svm nor vmx in /proc/cpuinfo)"])
        facts.add(["/dev/net/tun", tapDevices ? "opens" : "cannot be opened"])
        facts.add(["memory", "\(memoryMebibytes) MiB, \(availableMemoryMebibytes) MiB available"])
        facts.add(["Linux guests", linuxGuests ? "yes" : "no"])
        facts.add(["symbiotic interface", symbioticGuests ? "yes" : "no"])
        var text = facts.text
        if !capabilities.isEmpty {
            var table = TextTable([.words("CAPABILITY"), .words("HAVE"), .words("NEEDED"), .words("FOR")])
            for item in capabilities { table.add([item.name, item.value == 0 ? "no" : "yes", item.isNeeded ? "yes" : "-", item.purpose]) }
            text += "\n" + table.text
        }
        return advice.isEmpty ? text : text + "\n" + advice.map { $0 + "\n" }.joined()
    }

    /// The lines of a small kernel file, each as its words, as far as the first empty line: of /proc/cpuinfo, the first processor.
    private static func words(of path: String) -> [[Substring]] {
        guard let bytes = try? SmallFile.read(path, atMost: 4 << 20) else { return [] }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.split(separator: "\n", omittingEmptySubsequences: false).prefix { !$0.isEmpty }.map { line in
            line.split(whereSeparator: { $0 == " " || $0 == "\t" })
        }
    }

    private static func kibibytes(_ name: String, _ lines: [[Substring]]) -> UInt64 {
        guard let line = lines.first(where: { $0.first == Substring(name) }), line.count >= 2 else { return 0 }
        return UInt64(line[1]) ?? 0
    }

    private static func isOpenable(_ path: String) -> Bool {
        (try? FileDescriptor.open(path, O_RDWR | O_NONBLOCK)) != nil
    }
}
