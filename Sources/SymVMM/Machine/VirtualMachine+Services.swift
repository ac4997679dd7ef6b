// SPDX-License-Identifier: Apache-2.0

public import VMMBase

internal import Glibc
internal import Synchronization

/// What a symbiotic service may do with the machine.
extension VirtualMachine: ServiceHost {
    /// GPA of the first byte behind all that the guest can address.
    static var addressLimit: UInt64 {
        // Processors with more need five levels of nested page tables for it, which KVM may not have.
        1 << UInt64(min(HostProcessor.physicalAddressBits, 48))
    }

    /// GPA of the first byte behind the guest's RAM and the hole below it.
    private var ramEnd: UInt64 {
        GuestMemory.holeEnd &+ memory.highByteCount
    }

    /// The next free range of guest-physical space above RAM.
    public func reserveWindow(byteCount: UInt64) throws(MachineError) -> UInt64 {
        guard let gpa = windows.withLock({ $0.allocate(byteCount: byteCount) }) else {
            throw MachineError(.configuration, "RAM and the services' windows together are more than this host's guests can address")
        }
        return gpa
    }

    /// Makes a memory slot of the mapping. Also while the guest runs.
    public func show(_ mapping: borrowing MemoryMapping, at gpa: UInt64, readOnly: Bool) throws(KVMError) {
        let length = UInt64(mapping.byteCount)
        let isGood = windows.withLock { $0.contains(gpa, byteCount: length, ramEnd: ramEnd) }
        guard gpa % GuestMemory.pageSize == 0, length > 0, isGood else {
            throw KVMError(call: "memory at 0x\(String(gpa, radix: 16))", errno: EINVAL, advice: "\(length) bytes do not fit there")
        }
        let slot = serviceSlots.withLock { next in
            defer { next &+= 1 }
            return next
        }
        // SAFETY: the caller keeps the mapping for the machine's life.
        try unsafe handle.setMemorySlot(slot, gpa: gpa, byteCount: length, hva: mapping.baseAddress, readOnly: readOnly)
    }

    /// Where the device's registers are.
    public func registers(of device: VirtioDevice) -> UInt64? {
        guard let index = virtio.firstIndex(where: { $0.device === device }) else { return nil }
        return DeviceManager.mmioBase + UInt64(index) * DeviceManager.mmioStride
    }

    /// Holds the global page while the service uses its part of it.
    @discardableResult
    public func withGlobalPage(of service: SymbioticService, _ body: (ServicePage) -> Void) -> Bool {
        guard let symbiotic, let part = service.claims.globalPage else { return false }
        return symbiotic.withGlobalPage { body(ServicePage(memory: memory, address: $0, part: part)) }
    }
}
