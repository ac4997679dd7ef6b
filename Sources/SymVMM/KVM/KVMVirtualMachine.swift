// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import VMMBase
internal import VMMModel

/// Owner of a KVM virtual machine's descriptor. Any thread.
struct KVMVirtualMachine: ~Copyable, Sendable {
    let descriptor: OwnedFileDescriptor
    private let runPageSize: Int

    init(owning descriptor: consuming OwnedFileDescriptor, runPageSize: Int) {
        self.descriptor = descriptor
        self.runPageSize = runPageSize
    }

    /// Returns the answer of KVM_CHECK_EXTENSION for this VM (KVM API 4.4).
    func check(_ capability: Int32) -> Int32 {
        max(0, ckvm_check_extension(descriptor.rawValue, UInt(capability)))
    }

    /// Creates the in-kernel PIC, IO-APIC and local APICs (KVM API 4.24) and the PIT (4.71). Before the first vCPU.
    func createInterruptController() throws(VMMError) {
        _ = try VMMError.check(ckvm_create_irqchip(descriptor.rawValue), "KVM_CREATE_IRQCHIP")
        _ = try VMMError.check(ckvm_create_pit2(descriptor.rawValue, UInt32(CKVM_PIT_SPEAKER_DUMMY)), "KVM_CREATE_PIT2")
    }

    /// Reserves the pages with which KVM emulates real mode on Intel processors: an identity map, and a task state segment of three pages
    /// (KVM API 4.41, 4.36).
    ///
    /// - Parameter gpa: four pages of guest-physical space that hold neither memory nor a device.
    func reserveRealModePages(at gpa: UInt64) throws(VMMError) {
        _ = try VMMError.check(ckvm_set_identity_map_addr(descriptor.rawValue, gpa), "KVM_SET_IDENTITY_MAP_ADDR")
        _ = try VMMError.check(ckvm_set_tss_addr(descriptor.rawValue, gpa &+ 0x1000), "KVM_SET_TSS_ADDR")
    }

    /// Creates, changes or (with `byteCount` 0) deletes a memory slot (KVM API 4.35).
    ///
    /// - Parameters:
    ///   - hva: page-aligned memory of this process that outlives the slot.
    ///   - readOnly: a guest write becomes an MMIO exit.
    func setMemorySlot(_ slot: UInt32, gpa: UInt64, byteCount: UInt64, hva: UnsafeMutableRawPointer, readOnly: Bool = false)
        throws(VMMError)
    {
        let flags = readOnly ? UInt32(KVM_MEM_READONLY) : 0
        // SAFETY: only the kernel uses the pointer, and the caller keeps the memory as long as the slot exists.
        let result = unsafe ckvm_set_user_memory_region(descriptor.rawValue, slot, flags, gpa, byteCount, hva)
        _ = try VMMError.check(result, "KVM_SET_USER_MEMORY_REGION", advice: "slot \(slot), \(byteCount) bytes")
    }

    /// Makes signals of `notifier` raise an edge interrupt on global interrupt `gsi` (KVM API 4.75).
    func attach(_ notifier: borrowing EventNotifier, toInterrupt gsi: UInt32) throws(VMMError) {
        let result = ckvm_irqfd(descriptor.rawValue, notifier.descriptor.rawValue, gsi, 0)
        _ = try VMMError.check(result, "KVM_IRQFD", advice: "interrupt \(gsi)")
    }

    /// Makes a guest's 4-byte write of `value` to the MMIO address signal `notifier` in the kernel, without an exit (KVM API 4.59).
    func attach(_ notifier: borrowing EventNotifier, toDoorbellAt gpa: UInt64, value: UInt32) throws(VMMError) {
        let flags = UInt32(CKVM_IOEVENTFD_FLAG_DATAMATCH)
        let result = ckvm_ioeventfd(descriptor.rawValue, notifier.descriptor.rawValue, gpa, 4, flags, UInt64(value))
        _ = try VMMError.check(result, "KVM_IOEVENTFD")
    }

    /// Duplicates the descriptor, for an object that may outlive this one.
    func duplicateDescriptor() throws(VMMError) -> OwnedFileDescriptor {
        let number = fcntl(descriptor.rawValue, F_DUPFD_CLOEXEC, 0)
        guard number >= 0 else { throw VMMError.last("fcntl F_DUPFD_CLOEXEC", advice: "raise the limit of open files (ulimit -n)") }
        return OwnedFileDescriptor(owning: number)
    }

    /// Enables a capability that takes one argument (KVM API 4.37).
    func enable(_ capability: Int32, _ argument: UInt64) throws(VMMError) {
        _ = try VMMError.check(ckvm_enable_cap(descriptor.rawValue, UInt32(capability), argument), "KVM_ENABLE_CAP \(capability)")
    }

    /// Makes every guest access to MSRs `base ..< base + count` exit to user space (KVM API 4.97). KVM handles all other MSRs.
    func interceptMSRs(base: UInt32, count: UInt32) throws(VMMError) {
        let bitmap = [UInt8](repeating: 0, count: Int((count + 7) / 8))
        // SAFETY: the bitmap has a bit for each of `count` MSRs, and the kernel copies it during the call.
        let result = unsafe ckvm_set_msr_filter(descriptor.rawValue, base, count, bitmap)
        _ = try VMMError.check(result, "KVM_X86_SET_MSR_FILTER")
    }

    /// Creates a vCPU (KVM API 4.7).
    ///
    /// - Parameter id: its APIC id, from 0.
    func createVCPU(id: UInt32) throws(VMMError) -> KVMVCPU {
        let number = try VMMError.check(ckvm_create_vcpu(descriptor.rawValue, id), "KVM_CREATE_VCPU", advice: "vCPU \(id)")
        let vcpu = OwnedFileDescriptor(owning: number)
        let page = try MemoryMapping(shared: vcpu, byteCount: runPageSize)
        return KVMVCPU(owning: vcpu, runPage: page)
    }

    /// KVM's own counters for the whole VM (KVM API 4.133), or an empty set if the kernel has none.
    func statistics() -> KernelStatistics {
        KernelStatistics(readingFrom: OwnedFileDescriptor(owning: ckvm_get_stats_fd(descriptor.rawValue)))
    }
}
