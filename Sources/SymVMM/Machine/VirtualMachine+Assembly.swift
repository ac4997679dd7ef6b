// SPDX-License-Identifier: Apache-2.0

public import VMMBase
public import VMMModel

internal import CKVM
internal import Glibc

extension VirtualMachine {
    /// The parts of a machine.
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

    /// Most drives, network interfaces and devices of services together. The entropy device uses the last address.
    public static let deviceLimit = ResourceAllocator.freeInterrupts.count - 1

    private static let realModePages: UInt64 = 0xfffb_c000

    /// Sets the first vCPU's registers to the guest's entry point.
    typealias Entry = (borrowing KVMVCPU) throws(VMMError) -> Void

    /// Makes a machine and loads its kernel. No vCPU runs yet.
    ///
    /// - Parameters:
    ///   - configuration: the machine's memory, vCPUs, kernel and devices.
    ///   - console: receives the output of the guest's serial port.
    ///   - services: handle the guest's doorbells.
    ///   - loading: limits the time to load the guest's files.
    ///   - responder: makes what answers some frames of a network interface, given its identifier.
    public convenience init(
        _ configuration: MachineConfiguration, console: ConsoleOutput, services: [SymbioticService] = [],
        loading: LoadingLimit = LoadingLimit(), responder: @escaping FrameResponder.Maker = { _ in nil }
    ) throws(VMMError) {
        let memory = try GuestMemory(byteCount: configuration.memoryByteCount, hugePages: configuration.hugePages)
        try self.init(
            configuration, memory, console, services,
            attach: { (buses, handle) throws(VMMError) in
                try buses.attachVirtioDevices(configuration, memory, handle, responder: responder)
            },
            load: { (buses, symbiotic) throws(VMMError) in
                let entry = try VirtualMachine.load(configuration, memory, buses, symbiotic, loading)
                return { (vcpu) throws(VMMError) in
                    try vcpu.setRegisters(entry.registers())
                    try vcpu.setSpecialRegisters(entry.specialRegisters(from: try vcpu.specialRegisters()))
                }
            })
    }

    /// Makes a machine with memory that already contains the guest's code: for tests and benchmarks with tiny guests.
    ///
    /// - Parameters:
    ///   - adjust: attaches more devices to the buses.
    convenience init(
        bare configuration: MachineConfiguration, memory: GuestMemory, console: ConsoleOutput = ConsoleOutput(),
        services: [SymbioticService] = [], adjust: (inout DeviceManager) -> Void = { _ in }, enter: @escaping Entry
    ) throws(VMMError) {
        try self.init(
            configuration, memory, console, services, attach: { (buses, _) throws(VMMError) in adjust(&buses) },
            load: { (_, _) throws(VMMError) in enter })
    }

    /// Makes a machine for `restoreState(_:)`, with memory that has the saved machine's contents. Loads no kernel.
    public convenience init(
        restorable configuration: MachineConfiguration, memory: GuestMemory, console: ConsoleOutput, services: [SymbioticService] = []
    ) throws(VMMError) {
        try self.init(
            configuration, memory, console, services,
            attach: { (buses, handle) throws(VMMError) in try buses.attachVirtioDevices(configuration, memory, handle) },
            load: { (_, _) in { _ in } })
    }

    /// Makes the parts in the order that KVM requires: VM, interrupt controller, devices, then vCPUs.
    private convenience init(
        _ configuration: MachineConfiguration, _ memory: GuestMemory, _ console: ConsoleOutput, _ services: [SymbioticService],
        attach: (inout DeviceManager, borrowing KVMVirtualMachine) throws(VMMError) -> Void,
        load: (DeviceManager, SymbioticSetup?) throws(VMMError) -> Entry
    ) throws(VMMError) {
        try VirtualMachine.check(configuration)
        try ServiceClaims.check(services.map(\.claims))
        let kvm = try KVMSystem()
        let missing = KVMCapability.missing(for: .everyGuest, kvm)
        guard missing.isEmpty else {
            throw .host("this kernel's KVM lacks \(missing.joined(separator: ", ")): use Linux 5.10 or later")
        }
        let handle = try VirtualMachine.createHandle(kvm, memory)
        // Disables the counters, not only their CPUID bits: AMD's first counters have none. Since Linux 5.18.
        if !configuration.pmu, kvm.check(KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE != 0 {
            try? handle.enable(KVM_CAP_PMU_CAPABILITY, UInt64(KVM_PMU_CAP_DISABLE))
        }
        let windows = WindowAllocator(
            ramEnd: GuestMemory.holeEnd &+ memory.highByteCount, addressLimit: VirtualMachine.addressLimit)
        var buses = try DeviceManager(
            machine: handle, console: console, resources: ResourceAllocator(windows: windows, firstSlot: GuestMemory.slotCount),
            hasKeyboard: configuration.keyboard)
        try attach(&buses, handle)
        if configuration.testDevice { try buses.attach(TestDevice(), base: TestDevice.basePort, count: TestDevice.portCount) }
        for service in services {
            for device in service.devices() { try buses.attach(device, memory, handle) }
        }
        let symbiotic = try SymbioticSetup(configuration, kvm, handle, memory, services: services)
        if let symbiotic { try buses.attach(symbiotic) }
        let enter = try load(buses, symbiotic)
        let ending = try TerminationLatch()
        let processors = try VirtualMachine.createVCPUs(configuration, kvm, handle, memory, buses, symbiotic, ending)
        if let first = processors.first { try enter(first.handle) }
        self.init(
            Parts(
                configuration: configuration, handle: handle, memory: memory, buses: buses, ending: ending, processors: processors,
                symbiotic: symbiotic, services: services))
        for service in services { try service.prepare(on: self) }
    }

    /// Loads kernel, initial RAM disk, command line, and the tables that describe the machine.
    private static func load(
        _ configuration: MachineConfiguration, _ memory: GuestMemory, _ buses: DeviceManager, _ symbiotic: SymbioticSetup?,
        _ limit: LoadingLimit
    ) throws(VMMError) -> BootEntry {
        let acpi = ACPIDescription(
            vcpuCount: configuration.vcpuCount, mmioDevices: buses.virtioDescriptions,
            symbioticInterrupt: symbiotic == nil ? nil : SymbioticSetup.interruptNumber, hasKeyboard: configuration.keyboard)
        let entry: BootEntry
        entry = try BootLoader.load(
            kernelPath: configuration.kernelPath, initrdPath: configuration.initrdPath, commandLine: configuration.commandLine,
            memory: memory, acpi: acpi, limit: limit)
        if entry.isLinux, HostProcessor.hardwareVirtualization == nil { throw VMMError.noHardwareVirtualization }
        return entry
    }

    /// Makes the VM without vCPUs: memory, interrupt controller, timer.
    static func createHandle(_ kvm: borrowing KVMSystem, _ memory: GuestMemory) throws(VMMError) -> KVMVirtualMachine {
        let handle = try kvm.createVirtualMachine()
        try handle.reserveRealModePages(at: realModePages)
        try memory.map(into: handle)
        try handle.createInterruptController()
        return handle
    }

    /// Makes the vCPUs. None runs yet.
    static func createVCPUs(
        _ configuration: MachineConfiguration, _ kvm: borrowing KVMSystem, _ handle: borrowing KVMVirtualMachine, _ memory: GuestMemory,
        _ buses: DeviceManager, _ symbiotic: SymbioticSetup?, _ ending: TerminationLatch
    ) throws(VMMError) -> [VCPU] {
        let policy = CPUIDPolicy(
            supported: try kvm.supportedCPUID(), vcpuCount: configuration.vcpuCount,
            hasDeadlineTimer: kvm.check(KVM_CAP_TSC_DEADLINE_TIMER) > 0,
            ownLeaves: symbiotic.map { SymbioticCPUID.leaves(features: $0.features) } ?? [],
            isNestingOffered: configuration.nested, isPMUOffered: configuration.pmu,
            threadsPerCore: configuration.smt ? 2 : 1)
        _ = try VMMError.check(ckvm_install_kick_handler(VCPU.kickSignal), "sigaction")
        var processors: [VCPU] = []
        for index in 0..<configuration.vcpuCount {
            let vcpu = try handle.createVCPU(id: UInt32(index))
            try configure(vcpu, policy, apicID: UInt32(index))
            processors.append(
                try VCPU(
                    index: index, handle: vcpu, memory: memory, ports: buses.ports, mmio: buses.mmio, symbiotic: symbiotic, ending: ending)
            )
        }
        return processors
    }

    static func check(_ configuration: MachineConfiguration) throws(VMMError) {
        let limits = MachineLimits.vcpuCount
        guard limits.contains(configuration.vcpuCount) else {
            throw VMMError(
                .user, "\(configuration.vcpuCount) vCPUs: give \(limits.lowerBound) to \(limits.upperBound)")
        }
        guard !configuration.smt || configuration.vcpuCount == 1 || configuration.vcpuCount % 2 == 0 else {
            throw .user("smt: \(configuration.vcpuCount) vCPUs: give 1 or an even number")
        }
    }

    /// Sets a vCPU's CPUID, and its local APIC as firmware would.
    static func configure(_ vcpu: borrowing KVMVCPU, _ policy: CPUIDPolicy, apicID: UInt32) throws(VMMError) {
        try vcpu.setCPUID(policy.entries(apicID: apicID))
        // IA32_MISC_ENABLE: fast string operations, as firmware enables them. An error is ignored: the host's processor may lack the MSR.
        try? vcpu.setMSR(0x1a0, 1)
        var apic = try vcpu.localAPIC()
        apic.setRegister(0x350, apic.register(0x350) & ~0x700 | 0x700)  // LINT0: ExtINT, the PIC (SDM volume 3A, 11.5.1)
        apic.setRegister(0x360, apic.register(0x360) & ~0x700 | 0x400)  // LINT1: NMI
        try vcpu.setLocalAPIC(apic)
    }
}

extension kvm_lapic_state {
    /// Reads a 32-bit register. The offset is a multiple of 16 below 1 KiB.
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
