// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase
internal import VMMModel

/// Owner of a vCPU's descriptor and of its run page.
///
/// All calls belong to the vCPU's own thread (or to its maker, before that thread starts), save `interrupt()` and `statistics()`, which
/// any thread may call.
struct KVMVCPU: ~Copyable, @unchecked Sendable {
    private let descriptor: FileDescriptor
    private let runPage: MemoryMapping
    /// Opened once: a running vCPU holds its lock against every ioctl, KVM_GET_STATS_FD too, but not against reads of this.
    private let statisticsDescriptor: FileDescriptor

    init(owning descriptor: consuming FileDescriptor, runPage: consuming MemoryMapping) {
        statisticsDescriptor = FileDescriptor(owning: ckvm_get_stats_fd(descriptor.rawValue))
        self.descriptor = descriptor
        self.runPage = runPage
    }

    /// The run page as the kernel lays it out (KVM API 5). Valid while the owner lives.
    @inline(__always)
    var page: UnsafeMutablePointer<kvm_run> {
        // SAFETY: the kernel maps a kvm_run at the start of the page, which is at least that long.
        unsafe runPage.baseAddress.assumingMemoryBound(to: kvm_run.self)
    }

    /// Lets the guest run until the next exit (KVM API 4.10). Returns 0, or `-errno`: `-EINTR` when kicked.
    @inline(__always)
    func run() -> Int32 {
        ckvm_run(descriptor.rawValue)
    }

    /// Makes the running or next KVM_RUN return with `-EINTR`, once the thread has also been sent the kick signal. Any thread.
    @inline(__always)
    func interrupt() {
        // SAFETY: immediate_exit is the byte of the run page that others may write; the shim writes it atomically.
        unsafe ckvm_set_immediate_exit(page, 1)
    }

    /// Takes `interrupt()` back.
    @inline(__always)
    func clearInterrupt() {
        // SAFETY: as in interrupt().
        unsafe ckvm_set_immediate_exit(page, 0)
    }

    /// The registers that KVM_RUN gave or takes (KVM API 5, KVM_CAP_SYNC_REGS). Only between two runs.
    var syncedRegisters: kvm_sync_regs {
        get {
            // SAFETY: the kernel lays the registers out in the run page, which is this thread's between two runs.
            unsafe ckvm_synced_registers(page)
        }
        nonmutating set {
            // SAFETY: as above.
            var value = newValue
            unsafe ckvm_set_synced_registers(page, &value)
        }
    }

    /// The general registers, RIP and RFLAGS among those.
    @inline(__always)
    var syncedGeneralRegisters: kvm_regs {
        // SAFETY: as above.
        unsafe ckvm_synced_general_registers(page)
    }

    /// Copies them out.
    @inline(__always)
    func takeGeneralRegisters(_ registers: UnsafeMutablePointer<kvm_regs>) {
        // SAFETY: as above; the caller's pointer is to a value.
        unsafe ckvm_take_general_registers(page, registers)
    }

    /// Copies them in; `setDirtyRegisters(_:)` makes KVM_RUN take them.
    @inline(__always)
    func giveGeneralRegisters(_ registers: UnsafePointer<kvm_regs>) {
        // SAFETY: as above.
        unsafe ckvm_set_synced_general_registers(page, registers)
    }

    /// Which sets of registers KVM_RUN gives at each exit from now on: KVM_SYNC_X86_ bits, 0 for none.
    func setValidRegisters(_ sets: UInt64) {
        // SAFETY: as above.
        unsafe ckvm_set_valid_registers(page, sets)
    }

    /// Which sets of registers the next KVM_RUN takes.
    func setDirtyRegisters(_ sets: UInt64) {
        // SAFETY: as above.
        unsafe ckvm_set_dirty_registers(page, sets)
    }

    /// Whether the exit in the run page is one OUT of one byte, no string instruction.
    var isSingleByteOutput: Bool {
        // SAFETY: between two runs the page is this thread's.
        guard Int32(bitPattern: unsafe ckvm_exit_reason(page)) == KVM_EXIT_IO else { return false }
        let exit = unsafe ckvm_exit_port(page)
        return Int32(exit.direction) == KVM_EXIT_IO_OUT && exit.size == 1 && exit.count == 1
    }

    /// The bytes of a port exit's data, or nil when the kernel's offset points outside the run page.
    @inline(__always)
    func portData(_ exit: ckvm_port_exit) -> UnsafeMutableRawPointer? {
        let (count, overflow) = Int(exit.size).multipliedReportingOverflow(by: Int(exit.count))
        guard !overflow, exit.data_offset <= UInt64(runPage.byteCount), count <= runPage.byteCount - Int(exit.data_offset) else {
            return nil
        }
        // SAFETY: just checked to lie within the page.
        return unsafe runPage.baseAddress + Int(exit.data_offset)
    }

    /// Sets the CPUID leaves that the guest sees (KVM API 4.47). Before the first run.
    func setCPUID(_ entries: [kvm_cpuid_entry2]) throws(KVMError) {
        // SAFETY: the array is as long as is said.
        let result = unsafe ckvm_set_cpuid2(descriptor.rawValue, entries, UInt32(entries.count))
        _ = try KVMError.check(result, "KVM_SET_CPUID2")
    }

    /// The general registers, RIP and RFLAGS (KVM API 4.11).
    func registers() throws(KVMError) -> kvm_regs {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_REGS", kvm_regs(), ckvm_get_regs)
    }

    /// Sets the general registers, RIP and RFLAGS (KVM API 4.12).
    func setRegisters(_ value: kvm_regs) throws(KVMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_REGS", value, ckvm_set_regs)
    }

    /// Segments, control registers, EFER and the APIC base (KVM API 4.13).
    func specialRegisters() throws(KVMError) -> kvm_sregs {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_SREGS", kvm_sregs(), ckvm_get_sregs)
    }

    /// Sets segments, control registers, EFER and the APIC base (KVM API 4.14).
    func setSpecialRegisters(_ value: kvm_sregs) throws(KVMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_SREGS", value, ckvm_set_sregs)
    }

    /// Exceptions, interrupts and NMIs on their way into the guest (KVM API 4.31).
    func events() throws(KVMError) -> kvm_vcpu_events {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_VCPU_EVENTS", kvm_vcpu_events(), ckvm_get_vcpu_events)
    }

    /// Running, halted, waiting for start-up, and so on: a KVM_MP_STATE_ constant (KVM API 4.38).
    func multiprocessorState() throws(KVMError) -> UInt32 {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_MP_STATE", kvm_mp_state(), ckvm_get_mp_state).mp_state
    }

    /// Sets the multiprocessor state (KVM API 4.39).
    func setMultiprocessorState(_ state: UInt32) throws(KVMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_MP_STATE", kvm_mp_state(mp_state: state), ckvm_set_mp_state)
    }

    /// Sets a model-specific register (KVM API 4.19).
    func setMSR(_ index: UInt32, _ value: UInt64) throws(KVMError) {
        let result = ckvm_set_msr(descriptor.rawValue, index, value)
        _ = try KVMError.check(result, "KVM_SET_MSRS 0x\(String(index, radix: 16))")
    }

    /// The local APIC's registers (KVM API 4.57).
    func localAPIC() throws(KVMError) -> kvm_lapic_state {
        // SAFETY: the ioctl fills in one value of this type.
        try unsafe get("KVM_GET_LAPIC", kvm_lapic_state(), ckvm_get_lapic)
    }

    /// Sets the local APIC's registers (KVM API 4.58).
    func setLocalAPIC(_ value: kvm_lapic_state) throws(KVMError) {
        // SAFETY: the ioctl reads one value of this type.
        try unsafe set("KVM_SET_LAPIC", value, ckvm_set_lapic)
    }

    /// Tells the guest's kvmclock that the vCPU was stopped, so that its watchdogs do not take the pause for a lock-up (KVM API 4.74).
    /// A guest without kvmclock is left alone.
    func recordClockPause() {
        _ = ckvm_kvmclock_ctrl(descriptor.rawValue)
    }

    /// Runs an ioctl of the shim's that fills in `value`.
    @inline(__always)
    private func get<Value>(
        _ call: String, _ value: Value, _ ioctl: (Int32, UnsafeMutablePointer<Value>) -> Int32
    ) throws(KVMError) -> Value {
        var value = value
        // SAFETY: the variable outlives the call.
        _ = try KVMError.check(unsafe ioctl(descriptor.rawValue, &value), call)
        return value
    }

    /// Runs an ioctl of the shim's that reads `value`.
    @inline(__always)
    private func set<Value>(
        _ call: String, _ value: Value, _ ioctl: (Int32, UnsafePointer<Value>) -> Int32
    ) throws(KVMError) {
        // SAFETY: the variable outlives the call.
        _ = try KVMError.check(unsafe withUnsafePointer(to: value) { unsafe ioctl(descriptor.rawValue, $0) }, call)
    }

    /// KVM's own counters for this vCPU (KVM API 4.133). Any thread.
    func statistics() -> KernelStatistics {
        KernelStatistics(readingFrom: statisticsDescriptor)
    }
}
