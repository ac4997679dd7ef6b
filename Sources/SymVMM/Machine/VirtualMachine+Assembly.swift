// SPDX-License-Identifier: Apache-2.0

public import VMMBase
public import VMMModel

internal import CKVM
internal import Glibc

extension VirtualMachine {
    /// What a machine is put together from.
    struct Parts: ~Copyable {
        let configuration: MachineConfiguration
        let handle: KVMVirtualMachine
        let memory: GuestMemory
        let buses: DeviceManager
        let ending: TerminationLatch
        let processors: [VCPU]
        let symbiotic: SymbioticSetup?
        let services: [SymbioticService]
    }

    /// Most drives, network interfaces and devices of services together: the generator of random numbers has the last place.
    public static let deviceLimit = DeviceManager.freeInterrupts.count - 1

    private static let realModePages: UInt64 = 0xfffb_c000

    /// Sets the first vCPU's registers to the guest's entry.
    typealias Entry = (borrowing KVMVCPU) throws(KVMError) -> Void

    /// Makes a machine and loads its kernel. Nothing runs yet.
    ///
    /// - Parameters:
    ///   - console: where the guest's console goes.
    ///   - services: what answers the guest's doorbells besides symvmm itself.
    ///   - loading: ends the loading of the guest's files.
    public convenience init(
        _ configuration: MachineConfiguration, console: ConsoleOutput, services: [SymbioticService] = [],
        loading: LoadingLimit = LoadingLimit()
    ) throws(MachineError) {
        let memory = try MachineError.host { () throws(KVMError) in try GuestMemory(byteCount: configuration.memoryByteCount) }
        try self.init(
            configuration, memory, console, services,
            attach: { (buses, handle) throws(MachineError) in try buses.attachVirtioDevices(configuration, memory, handle) },
            load: { (buses, symbiotic) throws(MachineError) in
                let entry = try VirtualMachine.load(configuration, memory, buses, symbiotic, loading)
                return { (vcpu) throws(KVMError) in
                    try vcpu.setRegisters(entry.registers())
                    try vcpu.setSpecialRegisters(entry.specialRegisters(from: try vcpu.specialRegisters()))
                }
            })
    }

    /// Makes a machine around memory that already holds what the guest starts with: for tests and benchmarks with tiny guests.
    ///
    /// - Parameters:
    ///   - adjust: puts further devices on the buses.
    convenience init(
        bare configuration: MachineConfiguration, memory: GuestMemory, console: ConsoleOutput = ConsoleOutput(),
        services: [SymbioticService] = [], adjust: (inout DeviceManager) -> Void = { _ in }, enter: @escaping Entry
    ) throws(MachineError) {
        try self.init(
            configuration, memory, console, services, attach: { (buses, _) throws(MachineError) in adjust(&buses) },
            load: { (_, _) throws(MachineError) in enter })
    }

    /// Puts the parts together in the order that KVM wants: machine, interrupt controller, devices, then vCPUs.
    private convenience init(
        _ configuration: MachineConfiguration, _ memory: GuestMemory, _ console: ConsoleOutput, _ services: [SymbioticService],
        attach: (inout DeviceManager, borrowing KVMVirtualMachine) throws(MachineError) -> Void,
        load: (DeviceManager, SymbioticSetup?) throws(MachineError) -> Entry
    ) throws(MachineError) {
        try VirtualMachine.check(configuration)
        try ServiceClaims.check(services.map(\.claims))
        let kvm = try MachineError.host { () throws(KVMError) in try KVMSystem() }
        let missing = KVMCapability.missing(for: .everyGuest, kvm)
        guard missing.isEmpty else {
            throw MachineError(.host, "this kernel's KVM lacks \(missing.joined(separator: ", ")): use Linux 5.10 or later")
        }
        let handle = try MachineError.host { () throws(KVMError) in try VirtualMachine.createHandle(kvm, memory) }
        // What CPUID hides is not there either: AMD's oldest counters have no bit in it. Kernels before 5.18 cannot.
        if !configuration.pmu, kvm.check(KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE != 0 {
            try? handle.enable(KVM_CAP_PMU_CAPABILITY, UInt64(KVM_PMU_CAP_DISABLE))
        }
        var buses = try MachineError.host { () throws(KVMError) in try DeviceManager(machine: handle, console: console) }
        try attach(&buses, handle)
        for service in services {
            for device in service.devices() { try buses.attach(device, memory, handle) }
        }
        let symbiotic = try MachineError.host { () throws(KVMError) in
            try SymbioticSetup(configuration, kvm, handle, memory, services: services)
        }
        if let symbiotic { buses.attach(symbiotic) }
        let enter = try load(buses, symbiotic)
        let ending = try MachineError.host { () throws(KVMError) in try TerminationLatch() }
        let processors = try MachineError.host { () throws(KVMError) in
            let processors = try VirtualMachine.createVCPUs(configuration, kvm, handle, buses, symbiotic, ending)
            if let first = processors.first { try enter(first.handle) }
            return processors
        }
        self.init(
            Parts(
                configuration: configuration, handle: handle, memory: memory, buses: buses, ending: ending, processors: processors,
                symbiotic: symbiotic, services: services))
        for service in services { try service.prepare(on: self) }
    }

    /// Kernel, initial RAM disk, command line and the tables that describe the machine.
    private static func load(
        _ configuration: MachineConfiguration, _ memory: GuestMemory, _ buses: DeviceManager, _ symbiotic: SymbioticSetup?,
        _ limit: LoadingLimit
    ) throws(MachineError) -> BootEntry {
        let acpi = ACPIDescription(
            vcpuCount: configuration.vcpuCount, mmioDevices: buses.virtioDescriptions,
            symbioticInterrupt: symbiotic == nil ? nil : SymbioticSetup.interruptNumber)
        let entry: BootEntry
        do throws(BootError) {
            entry = try BootLoader.load(
                kernelPath: configuration.kernelPath, initrdPath: configuration.initrdPath, commandLine: configuration.commandLine,
                memory: memory, acpi: acpi, limit: limit)
        } catch {
            throw MachineError(.configuration, error.description)
        }
        if entry.isLinux, HostProcessor.hardwareVirtualization == nil { throw MachineError.noHardwareVirtualization }
        return entry
    }

    /// The machine without vCPUs: memory, interrupt controller, timer.
    static func createHandle(_ kvm: borrowing KVMSystem, _ memory: GuestMemory) throws(KVMError) -> KVMVirtualMachine {
        let handle = try kvm.createVirtualMachine()
        try handle.reserveRealModePages(at: realModePages)
        try memory.map(into: handle)
        try handle.createInterruptController()
        return handle
    }

    /// The vCPUs, none of which runs yet.
    static func createVCPUs(
        _ configuration: MachineConfiguration, _ kvm: borrowing KVMSystem, _ handle: borrowing KVMVirtualMachine, _ buses: DeviceManager,
        _ symbiotic: SymbioticSetup?, _ ending: TerminationLatch
    ) throws(KVMError) -> [VCPU] {
        let policy = CPUIDPolicy(
            supported: try kvm.supportedCPUID(), vcpuCount: configuration.vcpuCount,
            hasDeadlineTimer: kvm.check(KVM_CAP_TSC_DEADLINE_TIMER) > 0,
            ownLeaves: symbiotic.map { SymbioticCPUID.leaves(features: $0.features) } ?? [],
            isNestingOffered: configuration.nested, isPMUOffered: configuration.pmu)
        _ = try KVMError.check(ckvm_install_kick_handler(VCPU.kickSignal), "sigaction")
        var processors: [VCPU] = []
        for index in 0..<configuration.vcpuCount {
            let vcpu = try handle.createVCPU(id: UInt32(index))
            try configure(vcpu, policy, apicID: UInt32(index))
            processors.append(
                try VCPU(index: index, handle: vcpu, ports: buses.ports, mmio: buses.mmio, symbiotic: symbiotic, ending: ending)
            )
        }
        return processors
    }

    static func check(_ configuration: MachineConfiguration) throws(MachineError) {
        let limits = MachineLimits.vcpuCount
        guard limits.contains(configuration.vcpuCount) else {
            throw MachineError(
                .configuration, "\(configuration.vcpuCount) vCPUs: give \(limits.lowerBound) to \(limits.upperBound)")
        }
    }

    /// Makes a vCPU: CPUID, local APIC as the firmware leaves it.
    static func configure(_ vcpu: borrowing KVMVCPU, _ policy: CPUIDPolicy, apicID: UInt32) throws(KVMError) {
        try vcpu.setCPUID(policy.entries(apicID: apicID))
        // Fast string operations, as firmware leaves them; a host that does not know the register does without.
        try? vcpu.setMSR(0x1a0, 1)
        var apic = try vcpu.localAPIC()
        apic.setRegister(0x350, apic.register(0x350) & ~0x700 | 0x700)  // LINT0: ExtINT, the PIC (SDM volume 3A, 11.5.1)
        apic.setRegister(0x360, apic.register(0x360) & ~0x700 | 0x400)  // LINT1: NMI
        try vcpu.setLocalAPIC(apic)
    }
}

extension kvm_lapic_state {
    /// Reads the 32-bit register at an offset of the APIC's page, which is a multiple of 16 below 1 KiB.
    fileprivate func register(_ offset: Int) -> UInt32 {
        // SAFETY: the constant offsets above are inside the structure's 1,024 bytes.
        unsafe withUnsafeBytes(of: self) { unsafe $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
    }

    /// Sets a register.
    fileprivate mutating func setRegister(_ offset: Int, _ value: UInt32) {
        // SAFETY: as above.
        unsafe withUnsafeMutableBytes(of: &self) { unsafe $0.storeBytes(of: value, toByteOffset: offset, as: UInt32.self) }
    }
}
