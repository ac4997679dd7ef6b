// SPDX-License-Identifier: Apache-2.0

public import VMMBase

internal import Glibc
internal import Synchronization

/// The machine as its symbiotic services use it.
extension VirtualMachine: ServiceHost {
    /// The end of the guest-physical address space.
    static var addressLimit: UInt64 {
        // More than 48 bits need five-level nested page tables, which KVM may not support.
        1 << UInt64(min(HostProcessor.physicalAddressBits, 48))
    }

    /// The end of the guest's RAM above the hole below 4 GiB.
    private var ramEnd: UInt64 {
        GuestMemory.holeEnd &+ memory.highByteCount
    }

    /// Whether the vCPUs run.
    public var isRunning: Bool { state == .running }

    /// Reserves the next free range above RAM.
    public func reserveWindow(byteCount: UInt64) throws(VMMError) -> UInt64 {
        guard let gpa = resources.withLock({ $0.allocateWindow(byteCount: byteCount) }) else {
            throw .user("RAM and the services' windows together are more than this host's guests can address")
        }
        return gpa
    }

    /// Makes a memory slot of the mapping. Allowed while the guest runs.
    public func map(_ mapping: borrowing MemoryMapping, at gpa: UInt64, readOnly: Bool) throws(VMMError) {
        let length = UInt64(mapping.byteCount)
        let isGood = resources.withLock { $0.isInWindow(gpa, byteCount: length, ramEnd: ramEnd) }
        guard gpa % GuestMemory.pageSize == 0, length > 0, isGood else {
            throw VMMError(call: "memory at 0x\(String(gpa, radix: 16))", errno: EINVAL, advice: "\(length) bytes do not fit there")
        }
        let slot = resources.withLock { $0.allocateMemorySlot() }
        // SAFETY: only the number; the closure below makes a pointer of it while the mapping lives.
        let address = unsafe UInt(bitPattern: mapping.baseAddress)
        let failure = Mutex<VMMError?>(nil)
        // On the I/O thread, so that no vCPU may change memory slots.
        ioThread.perform { [self] in
            do throws(VMMError) {
                // SAFETY: the caller keeps the mapping as long as the machine lives.
                guard let start = unsafe UnsafeMutableRawPointer(bitPattern: address) else { throw .bug("a mapping without an address") }
                try unsafe handle.setMemorySlot(slot, gpa: gpa, byteCount: length, hva: start, readOnly: readOnly)
            } catch {
                failure.withLock { $0 = error }
            }
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
    }

    /// GPA of a device's registers; nil when the machine does not have the device.
    public func registers(of device: VirtioDevice) -> UInt64? {
        processors.first?.mmio.attachments.first { ($0.device as? VirtioTransport)?.device === device }?.base
    }

    /// Calls `body` with the service's part of the global page.
    @discardableResult
    public func withGlobalPage(of service: SymbioticService, _ body: (ServicePage) -> Void) -> Bool {
        guard let symbiotic, let part = service.claims.globalPage else { return false }
        return symbiotic.withGlobalPage { body(ServicePage(memory: memory, address: $0, part: part)) }
    }
}
