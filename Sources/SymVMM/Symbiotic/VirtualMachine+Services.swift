// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc
internal import Synchronization

/// What a symbiotic service may do with the machine.
extension VirtualMachine {
    /// GPA of the first byte behind all that the guest can address.
    public var addressLimit: UInt64 {
        // Processors with more need five levels of nested page tables for it, which KVM may not have.
        1 << UInt64(min(HostProcessor.physicalAddressBits, 48))
    }

    /// Shows `mapping` to the guest as memory from `gpa` on. It is no RAM: the guest is not told of it, and no device reads or writes it.
    ///
    /// The slot stays for the machine's life: the caller keeps the mapping for as long. Any thread, also while the guest runs.
    ///
    /// - Parameters:
    ///   - gpa: page-aligned, behind the guest's RAM; the range ends at `addressLimit` at the latest.
    ///   - readOnly: what the guest writes there has no effect.
    public func addMemory(_ mapping: borrowing MemoryMapping, at gpa: UInt64, readOnly: Bool = false) throws(KVMError) {
        let length = UInt64(mapping.byteCount)
        let (end, overflow) = gpa.addingReportingOverflow(length)
        guard gpa % GuestMemory.pageSize == 0, length > 0, !overflow, gpa >= GuestMemory.holeEnd &+ memory.highByteCount,
            end <= addressLimit
        else {
            throw KVMError(call: "memory at 0x\(String(gpa, radix: 16))", errno: EINVAL, advice: "\(length) bytes do not fit there")
        }
        let slot = serviceSlots.withLock { next in
            defer { next &+= 1 }
            return next
        }
        // SAFETY: the caller keeps the mapping for the machine's life.
        try unsafe handle.setMemorySlot(slot, gpa: gpa, byteCount: length, hva: mapping.baseAddress, readOnly: readOnly)
    }

    /// GPA of the registers of a device that a service brought; nil when it is not of this machine.
    public func registers(of device: VirtioDevice) -> UInt64? {
        guard let index = virtio.firstIndex(where: { $0.device === device }) else { return nil }
        return MachineBuses.mmioBase + UInt64(index) * MachineBuses.mmioStride
    }

    /// Gives the symbiotic global page, if there is one, to a service that writes to it: meanwhile the guest does not get it back. No symcall
    /// in there. Any thread.
    ///
    /// - Returns: whether there was one.
    @discardableResult
    public func withSymbioticGlobalPage(_ write: (UInt64) -> Void) -> Bool {
        symbiotic?.withGlobalPage(write) ?? false
    }

    /// GPA of the symbiotic global page (docs/ABI.md, section 3.1), to read; nil while the guest's module has not registered one.
    public var symbioticGlobalPage: UInt64? {
        guard let page = symbiotic?.globalPage, page != 0 else { return nil }
        return page
    }
}
