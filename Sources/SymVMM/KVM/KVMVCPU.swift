// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase
internal import VMMModel

/// Owner of a vCPU's descriptor and of its run page.
///
/// Only the vCPU's thread (or its creator, before that thread starts) may call the methods, except `interrupt()` and `statistics()`, which
/// any thread may call.
struct KVMVCPU: ~Copyable, @unchecked Sendable {
    let descriptor: OwnedFileDescriptor
    private let runPage: MemoryMapping
    /// Opened once: while a vCPU runs, every ioctl on it blocks, also KVM_GET_STATS_FD. Reads of this descriptor do not block.
    private let statisticsDescriptor: OwnedFileDescriptor

    init(owning descriptor: consuming OwnedFileDescriptor, runPage: consuming MemoryMapping) {
        statisticsDescriptor = OwnedFileDescriptor(owning: ckvm_get_stats_fd(descriptor.rawValue))
        self.descriptor = descriptor
        self.runPage = runPage
    }

    /// The run page as the kernel lays it out (KVM API 5). Valid while the owner lives.
    @inline(__always)
    var page: UnsafeMutablePointer<kvm_run> {
        // SAFETY: the kernel maps a kvm_run at the start of the page, which is at least that long.
        unsafe runPage.baseAddress.assumingMemoryBound(to: kvm_run.self)
    }

    /// Runs the guest until the next exit (KVM API 4.10). Returns 0, or `-errno`: `-EINTR` when kicked.
    @inline(__always)
    func run() -> Int32 {
        ckvm_run(descriptor.rawValue)
    }

    /// Makes the next KVM_RUN return `-EINTR` at once. To interrupt a running one, also send the thread the kick signal. Any thread.
    @inline(__always)
    func interrupt() {
        // SAFETY: immediate_exit is the byte of the run page that other threads may write; the shim writes it atomically.
        unsafe ckvm_set_immediate_exit(page, 1)
    }

    /// Undoes `interrupt()`.
    @inline(__always)
    func clearInterrupt() {
        // SAFETY: as in interrupt().
        unsafe ckvm_set_immediate_exit(page, 0)
    }

    /// The registers that KVM_RUN stores or loads, in the run page (KVM API 5, KVM_CAP_SYNC_REGS). Only between two runs.
    @inline(__always)
    var syncedRegisters: UnsafeMutablePointer<kvm_sync_regs> {
        // SAFETY: the registers lie in the run page, and between two runs only this thread accesses it.
        unsafe ckvm_synced_registers(page)
    }

    /// Which sets of registers KVM_RUN stores at each exit from now on (kvm_valid_regs): KVM_SYNC_X86_ bits, 0 for none.
    func setValidRegisters(_ sets: UInt64) {
        // SAFETY: between two runs only this thread accesses the run page.
        unsafe ckvm_set_valid_registers(page, sets)
    }

    /// Which sets of registers the next KVM_RUN loads (kvm_dirty_regs).
    func setDirtyRegisters(_ sets: UInt64) {
        // SAFETY: between two runs only this thread accesses the run page.
        unsafe ckvm_set_dirty_registers(page, sets)
    }

    /// Whether the exit in the run page is an OUT of one byte, not a string instruction.
    var isSingleByteOutput: Bool {
        // SAFETY: between two runs only this thread accesses the run page.
        guard Int32(bitPattern: unsafe ckvm_exit_reason(page)) == KVM_EXIT_IO else { return false }
        let exit = unsafe ckvm_exit_port(page)
        return Int32(exit.direction) == KVM_EXIT_IO_OUT && exit.size == 1 && exit.count == 1
    }

    /// The data of a port exit, `size` times `count` bytes; nil if the kernel's offset points outside the run page.
    @inline(__always)
    func portData(_ exit: ckvm_port_exit) -> UnsafeMutableRawPointer? {
        let (count, overflow) = Int(exit.size).multipliedReportingOverflow(by: Int(exit.count))
        guard !overflow, exit.data_offset <= UInt64(runPage.byteCount), count <= runPage.byteCount - Int(exit.data_offset) else {
            return nil
        }
        // SAFETY: the guard has checked that all bytes lie in the page.
        return unsafe runPage.baseAddress + Int(exit.data_offset)
    }

    /// Sets the CPUID leaves that the guest sees (KVM API 4.47). Before the first run.
    func setCPUID(_ entries: [kvm_cpuid_entry2]) throws(VMMError) {
        // SAFETY: the array has the length that is passed.
        let result = unsafe ckvm_set_cpuid2(descriptor.rawValue, entries, UInt32(entries.count))
        _ = try VMMError.check(result, "KVM_SET_CPUID2")
    }

    /// The general registers, RIP and RFLAGS (KVM API 4.11).
    func registers() throws(VMMError) -> kvm_regs {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_REGS", kvm_regs(), ckvm_get_regs)
    }

    /// Sets the general registers, RIP and RFLAGS (KVM API 4.12).
    func setRegisters(_ value: kvm_regs) throws(VMMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_REGS", value, ckvm_set_regs)
    }

    /// Segments, control registers, EFER and the APIC base (KVM API 4.13).
    func specialRegisters() throws(VMMError) -> kvm_sregs {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_SREGS", kvm_sregs(), ckvm_get_sregs)
    }

    /// Sets segments, control registers, EFER and the APIC base (KVM API 4.14).
    func setSpecialRegisters(_ value: kvm_sregs) throws(VMMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_SREGS", value, ckvm_set_sregs)
    }

    /// Pending and injected exceptions, interrupts and NMIs (KVM API 4.31).
    func events() throws(VMMError) -> kvm_vcpu_events {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_VCPU_EVENTS", kvm_vcpu_events(), ckvm_get_vcpu_events)
    }

    /// Running, halted, waiting for start-up, and so on: a KVM_MP_STATE_ constant (KVM API 4.38).
    func multiprocessorState() throws(VMMError) -> UInt32 {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_MP_STATE", kvm_mp_state(), ckvm_get_mp_state).mp_state
    }

    /// Sets the multiprocessor state (KVM API 4.39).
    func setMultiprocessorState(_ state: UInt32) throws(VMMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_MP_STATE", kvm_mp_state(mp_state: state), ckvm_set_mp_state)
    }

    /// Sets a model-specific register (KVM API 4.19).
    func setMSR(_ index: UInt32, _ value: UInt64) throws(VMMError) {
        let result = ckvm_set_msr(descriptor.rawValue, index, value)
        _ = try VMMError.check(result, "KVM_SET_MSRS 0x\(String(index, radix: 16))")
    }

    /// The local APIC's registers (KVM API 4.57).
    func localAPIC() throws(VMMError) -> kvm_lapic_state {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_LAPIC", kvm_lapic_state(), ckvm_get_lapic)
    }

    /// Sets the local APIC's registers (KVM API 4.58).
    func setLocalAPIC(_ value: kvm_lapic_state) throws(VMMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_LAPIC", value, ckvm_set_lapic)
    }

    /// Tells the guest's kvmclock that the vCPU was stopped: no false soft-lockup report after a pause (KVM API 4.74).
    /// No effect on a guest without kvmclock.
    func recordClockPause() {
        _ = ckvm_kvmclock_ctrl(descriptor.rawValue)
    }

    /// Calls a function of the shim that fills in `value`.
    @inline(__always)
    func get<Value>(
        _ call: String, _ value: Value, _ ioctl: (Int32, UnsafeMutablePointer<Value>) -> Int32
    ) throws(VMMError) -> Value {
        var value = value
        // SAFETY: the variable outlives the call.
        _ = try VMMError.check(unsafe ioctl(descriptor.rawValue, &value), call)
        return value
    }

    /// Calls a function of the shim that reads `value`.
    @inline(__always)
    func set<Value>(
        _ call: String, _ value: Value, _ ioctl: (Int32, UnsafePointer<Value>) -> Int32
    ) throws(VMMError) {
        // SAFETY: the variable outlives the call.
        _ = try VMMError.check(unsafe withUnsafePointer(to: value) { unsafe ioctl(descriptor.rawValue, $0) }, call)
    }

    /// KVM's own counters for this vCPU (KVM API 4.133). Any thread.
    func statistics() -> KernelStatistics {
        KernelStatistics(readingFrom: statisticsDescriptor)
    }
}
