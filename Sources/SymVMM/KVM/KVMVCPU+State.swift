// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase

/// KVM's state of one vCPU.
struct KVMVCPUState: Codable, Sendable {
    /// A model-specific register.
    struct MSR: Codable, Sendable, Equatable {
        var index: UInt32
        var value: UInt64
    }

    /// A CPUID leaf as the guest sees it.
    struct CPUIDLeaf: Codable, Sendable, Equatable {
        var function: UInt32
        var index: UInt32
        /// EAX, EBX, ECX, EDX.
        var values: [UInt32]
    }

    /// KVM_MP_STATE_ constant.
    var multiprocessorState: UInt32
    var registers: KernelBytes<kvm_regs>
    var specialRegisters: KernelBytes<kvm_sregs>
    var debugRegisters: KernelBytes<kvm_debugregs>
    /// The XSAVE area: FPU, SSE, AVX and what comes after.
    var extendedState: HexBytes
    /// XCR0; nil if the processor has no XSAVE.
    var extendedControlRegisters: KernelBytes<kvm_xcrs>?
    var localAPIC: KernelBytes<kvm_lapic_state>
    var msrs: [MSR]
    var events: KernelBytes<kvm_vcpu_events>
    var time: VCPUTime
    var cpuid: [CPUIDLeaf]
}

/// Saving and restoring, in the order that KVM's ioctls need (KVM API 4). Comments at the calls give the reasons.
extension KVMVCPU {
    /// Reads the state. The vCPU must not run, and KVM must have completed its last exit (KVM API 5, note on KVM_EXIT_IO).
    ///
    /// - Parameters:
    ///   - msrs: the MSRs to save. MSRs that this vCPU does not have are omitted.
    ///   - extendedStateByteCount: 4096, or the value of KVM_CAP_XSAVE2.
    func saveState(msrs: [UInt32], extendedStateByteCount: Int) throws(VMMError) -> KVMVCPUState {
        // First, because KVM_GET_MP_STATE processes pending INIT and SIPI, which changes registers and the local APIC.
        let multiprocessorState = try multiprocessorState()
        let time = try time()
        return KVMVCPUState(
            multiprocessorState: multiprocessorState,
            registers: KernelBytes(try registers()),
            specialRegisters: KernelBytes(try specialRegisters()),
            // SAFETY: the ioctl fills in one value of this type.
            debugRegisters: KernelBytes(try unsafe get("KVM_GET_DEBUGREGS", kvm_debugregs(), ckvm_get_debugregs)),
            extendedState: HexBytes(try extendedState(extendedStateByteCount)),
            extendedControlRegisters: try extendedControlRegisters(),
            localAPIC: KernelBytes(try localAPIC()),
            msrs: try readMSRs(msrs),
            // Last, because the calls above may change the pending events.
            events: KernelBytes(try events()), time: time, cpuid: try cpuid())
    }

    /// Restores the registers that do not depend on the clock. The vCPU must not have run.
    ///
    /// - Parameter extendedStateByteCount: 4096, or the value of KVM_CAP_XSAVE2.
    func restoreRegisters(_ state: KVMVCPUState, extendedStateByteCount: Int) throws(VMMError) {
        try setMultiprocessorState(state.multiprocessorState)
        var registers = kvm_regs()
        try state.registers.restore(to: &registers)
        try setRegisters(registers)
        var special = kvm_sregs()
        try state.specialRegisters.restore(to: &special)
        try setSpecialRegisters(special)
        var debug = kvm_debugregs()
        try state.debugRegisters.restore(to: &debug)
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_DEBUGREGS", debug, ckvm_set_debugregs)
        if let saved = state.extendedControlRegisters {
            var control = kvm_xcrs()
            try saved.restore(to: &control)
            // SAFETY: the ioctl reads one value of this type.
            try unsafe set("KVM_SET_XCRS", control, ckvm_set_xcrs)
        }
        try setExtendedState(state.extendedState.bytes, byteCount: extendedStateByteCount)
        // After the special registers, which contain the APIC's base and mode.
        var apic = kvm_lapic_state()
        try state.localAPIC.restore(to: &apic)
        try setLocalAPIC(apic)
    }

    /// Restores MSRs and pending events. Restore TSC and kvmclock first: MSRs contain deadlines, and addresses to which KVM writes times.
    ///
    /// - Parameter known: the MSRs that a state may set. Others are an error.
    func restoreMSRsAndEvents(_ state: KVMVCPUState, known: Set<UInt32>) throws(VMMError) {
        for msr in state.msrs where !known.contains(msr.index) {
            throw .user("MSR 0x\(String(msr.index, radix: 16)) is not one that symvmm restores")
        }
        // IA32_TSC_DEADLINE last, and after the local APIC, whose timer must be in TSC-deadline mode.
        try writeMSRs(state.msrs.filter { $0.index != SavedMSRs.deadline } + state.msrs.filter { $0.index == SavedMSRs.deadline })
        // Last, because KVM_SET_REGS clears pending exceptions.
        var events = kvm_vcpu_events()
        try state.events.restore(to: &events)
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_VCPU_EVENTS", events, ckvm_set_vcpu_events)
        recordClockPause()
        guard try cpuid() == state.cpuid else {
            throw .user("the saved guest's CPUID differs from this machine's")
        }
    }

    // MARK: Parts

    private func extendedState(_ byteCount: Int) throws(VMMError) -> [UInt8] {
        var area = [UInt8](repeating: 0, count: byteCount)
        // SAFETY: the array has the length that is passed.
        let result = unsafe area.withUnsafeMutableBytes { unsafe ckvm_get_xsave(descriptor.rawValue, $0.baseAddress, $0.count) }
        _ = try VMMError.check(result, "KVM_GET_XSAVE")
        return area
    }

    private func setExtendedState(_ area: [UInt8], byteCount: Int) throws(VMMError) {
        guard area.count == byteCount else {
            throw .user("the extended state has \(area.count) bytes; on this host it has \(byteCount)")
        }
        // SAFETY: the check above ensures that the array has the bytes that KVM reads.
        let result = unsafe area.withUnsafeBytes { unsafe ckvm_set_xsave(descriptor.rawValue, $0.baseAddress) }
        _ = try VMMError.check(result, "KVM_SET_XSAVE")
    }

    private func extendedControlRegisters() throws(VMMError) -> KernelBytes<kvm_xcrs>? {
        var registers = kvm_xcrs()
        // SAFETY: the ioctl fills in one value of this type.
        let result = unsafe ckvm_get_xcrs(descriptor.rawValue, &registers)
        if result == -EINVAL { return nil }
        _ = try VMMError.check(result, "KVM_GET_XCRS")
        return KernelBytes(registers)
    }

    private func readMSRs(_ indices: [UInt32]) throws(VMMError) -> [KVMVCPUState.MSR] {
        var found: [KVMVCPUState.MSR] = []
        var rest = indices[...]
        while !rest.isEmpty {
            var entries = rest.prefix(Int(CKVM_MSRS_PER_CALL)).map { kvm_msr_entry(index: $0, reserved: 0, data: 0) }
            // SAFETY: the array has the number of entries that is passed.
            let result = unsafe ckvm_get_msrs(descriptor.rawValue, &entries, UInt32(entries.count))
            let count = Int(try VMMError.check(result, "KVM_GET_MSRS"))
            found += entries.prefix(count).map { KVMVCPUState.MSR(index: $0.index, value: $0.data) }
            // KVM stops at an MSR that this vCPU does not have: skip it.
            rest = rest.dropFirst(count < entries.count ? count + 1 : count)
        }
        return found
    }

    private func writeMSRs(_ msrs: [KVMVCPUState.MSR]) throws(VMMError) {
        var rest = msrs[...]
        while !rest.isEmpty {
            let entries = rest.prefix(Int(CKVM_MSRS_PER_CALL)).map { kvm_msr_entry(index: $0.index, reserved: 0, data: $0.value) }
            // SAFETY: the array has the number of entries that is passed.
            let result = unsafe ckvm_set_msrs(descriptor.rawValue, entries, UInt32(entries.count))
            let count = Int(try VMMError.check(result, "KVM_SET_MSRS"))
            if count < entries.count, let refused = rest.dropFirst(count).first, try readMSRs([refused.index]) != [refused] {
                // A read-only MSR that already has this value is not an error.
                let name = "MSR 0x\(String(refused.index, radix: 16))"
                throw .user("KVM rejects \(name) = 0x\(String(refused.value, radix: 16)) on this host")
            }
            rest = rest.dropFirst(count < entries.count ? count + 1 : count)
        }
    }

    private func cpuid() throws(VMMError) -> [KVMVCPUState.CPUIDLeaf] {
        var entries = [kvm_cpuid_entry2](repeating: kvm_cpuid_entry2(), count: 256)
        // SAFETY: the array has the capacity that is passed.
        let result = unsafe ckvm_get_cpuid2(descriptor.rawValue, &entries, UInt32(entries.count))
        let count = try VMMError.check(result, "KVM_GET_CPUID2")
        return entries.prefix(Int(count)).map {
            KVMVCPUState.CPUIDLeaf(function: $0.function, index: $0.index, values: [$0.eax, $0.ebx, $0.ecx, $0.edx])
        }
    }
}

/// The MSRs that belong to a vCPU's state.
enum SavedMSRs {
    /// IA32_TSC: restored with the clock, not with the rest.
    static let timeStampCounter: UInt32 = 0x10
    /// IA32_TSC_DEADLINE
    static let deadline: UInt32 = 0x6e0
    /// IA32_MCG_CAP: number of machine-check banks.
    private static let machineCheckCapability: UInt32 = 0x179
    private static let machineCheckBanks: UInt32 = 32

    /// The MSRs to save: KVM_GET_MSR_INDEX_LIST, and those that it omits, MTRRs and machine-check banks.
    static func indices(_ kvm: borrowing KVMSystem) throws(VMMError) -> [UInt32] {
        let memoryTypes: [UInt32] = Array(0x200...0x20f) + [0x250, 0x258, 0x259] + Array(0x268...0x26f) + [0x2ff]
        let machineChecks = Array(0x400..<0x400 + 4 * machineCheckBanks)
        var seen: Set<UInt32> = [timeStampCounter]
        return (try kvm.savedMSRs() + memoryTypes + machineChecks).filter { seen.insert($0).inserted }
    }
}
