// SPDX-License-Identifier: Apache-2.0

public import VMMBase
public import VMMModel

internal import Glibc
internal import Synchronization

/// An access to guest memory of which not all bytes lie in one region.
public struct GuestAddressError: Error, Equatable, Sendable {
    /// Guest-physical address (GPA) of the first byte.
    public let address: UInt64
    /// Length of the access in bytes.
    public let byteCount: Int
}

/// The guest's memory: one region from 0 up to at most 3 GiB, and the rest in a second region from 4 GiB.
///
/// Guest memory is volatile: vCPUs write to it at any time. So this type returns no references or slices; it copies bytes with bounds checks,
/// and accesses words that both sides write atomically. Addresses come from the guest and may be invalid: each method checks that all bytes
/// lie in one region. Any thread.
public final class GuestMemory: Sendable {
    /// Start of the hole that contains device registers, the IO-APIC and the local APICs: 3 GiB.
    public static let holeStart: UInt64 = 3 << 30
    /// End of the hole, 4 GiB. The second region starts here.
    public static let holeEnd: UInt64 = 4 << 30
    /// Size of a page in bytes.
    public static let pageSize = MachineLimits.pageByteCount

    /// Number of KVM memory slots that guest memory uses: slots 0 and 1.
    static let slotCount: UInt32 = 2

    /// Guest memory in bytes, both regions together.
    public let byteCount: UInt64
    /// Bytes below the hole.
    public let lowByteCount: UInt64
    /// Bytes from 4 GiB up.
    public let highByteCount: UInt64

    private let mapping: MemoryMapping

    /// Reserves address space. The host allocates a page when it is first accessed.
    ///
    /// - Parameters:
    ///   - byteCount: a multiple of 4096, at least 1 MiB and at most 1 TiB; of 2 MiB with huge pages.
    ///   - hugePages: the host pages that back it. Pages of hugetlbfs are reserved at once.
    public init(byteCount: UInt64, hugePages: HugePages = .none) throws(VMMError) {
        guard MachineLimits.memoryByteCount.contains(byteCount), byteCount % GuestMemory.pageSize == 0 else {
            throw VMMError(
                call: "guest memory", errno: EINVAL, advice: "\(byteCount) bytes: give 1 MiB to 1 TiB, whole pages of 4096 bytes")
        }
        guard hugePages == .none || byteCount % (2 << 20) == 0 else {
            throw .user("guest memory: huge pages need a multiple of 2 MiB, not \(byteCount) bytes")
        }
        switch hugePages {
        case .none: mapping = try MemoryMapping(anonymous: Int(byteCount))
        case .transparent: mapping = try MemoryMapping(anonymous: Int(byteCount), alignment: 2 << 20)
        case .hugetlb2M: mapping = try MemoryMapping(hugePages: Int(byteCount))
        }
        self.byteCount = byteCount
        lowByteCount = min(byteCount, GuestMemory.holeStart)
        highByteCount = byteCount - lowByteCount
        // SAFETY: the range is the whole mapping, which this object owns. The advice only excludes guest pages from core dumps.
        _ = unsafe madvise(mapping.baseAddress, mapping.byteCount, MADV_DONTDUMP)
        // SAFETY: as above; the advice only asks for larger pages.
        if hugePages == .transparent { _ = unsafe madvise(mapping.baseAddress, mapping.byteCount, MADV_HUGEPAGE) }
    }

    /// Creates KVM's memory slots 0 and 1. The object must outlive the VM.
    func map(into machine: borrowing KVMVirtualMachine) throws(VMMError) {
        // SAFETY: the mapping contains both regions, and the object outlives the VM, so the memory outlives the slots.
        try unsafe machine.setMemorySlot(0, gpa: 0, byteCount: lowByteCount, hva: mapping.baseAddress)
        guard highByteCount > 0 else { return }
        let high = unsafe mapping.baseAddress + Int(lowByteCount)
        try unsafe machine.setMemorySlot(1, gpa: GuestMemory.holeEnd, byteCount: highByteCount, hva: high)
    }

    /// Whether all of `byteCount` bytes from `address` lie in one region.
    public func contains(_ address: UInt64, byteCount: Int) -> Bool {
        offset(address, byteCount) != nil
    }

    /// Copies bytes out of the guest into `destination`, as many as it has.
    public func read(_ address: UInt64, into destination: UnsafeMutableRawBufferPointer) throws(GuestAddressError) {
        let source = try unsafe pointer(address, byteCount: destination.count)
        guard let base = destination.baseAddress else { return }
        // SAFETY: pointer(_:byteCount:) checked the source; the destination is the caller's, of that length. They cannot overlap.
        unsafe memcpy(base, source, destination.count)
    }

    /// Copies bytes out of the guest into an array.
    ///
    /// - Parameters:
    ///   - address: GPA of the first byte.
    ///   - byteCount: length in bytes. The caller limits it, because this method allocates an array of this size.
    public func read(_ address: UInt64, byteCount: Int) throws(GuestAddressError) -> [UInt8] {
        let source = try unsafe pointer(address, byteCount: byteCount)
        // SAFETY: pointer(_:byteCount:) has checked the range.
        return unsafe [UInt8](UnsafeRawBufferPointer(start: source, count: byteCount))
    }

    /// Copies bytes into the guest.
    public func write(_ address: UInt64, from source: UnsafeRawBufferPointer) throws(GuestAddressError) {
        let destination = try unsafe pointer(address, byteCount: source.count)
        guard let base = source.baseAddress else { return }
        // SAFETY: pointer(_:byteCount:) checked the destination; the source is the caller's, of that length.
        unsafe memcpy(destination, base, source.count)
    }

    /// Copies an array's bytes into the guest.
    public func write(_ address: UInt64, bytes: [UInt8]) throws(GuestAddressError) {
        let destination = try unsafe pointer(address, byteCount: bytes.count)
        // SAFETY: pointer(_:byteCount:) has checked this many bytes.
        unsafe bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { unsafe memcpy(destination, base, source.count) }
        }
    }

    /// Sets bytes to zero.
    public func zero(_ address: UInt64, byteCount: Int) throws(GuestAddressError) {
        let destination = try unsafe pointer(address, byteCount: byteCount)
        // SAFETY: pointer(_:byteCount:) has checked the range.
        unsafe memset(destination, 0, byteCount)
    }

    /// Copies all bytes of another guest's memory of the same size. No vCPU and no device may access either memory meanwhile.
    public func copy(from other: GuestMemory) throws(VMMError) {
        guard byteCount == other.byteCount else {
            throw .user("guest memory of \(other.byteCount) bytes does not fit into \(byteCount) bytes")
        }
        let page = Int(GuestMemory.pageSize)
        for offset in stride(from: 0, to: mapping.byteCount, by: page) {
            // SAFETY: the page lies in both mappings, which are distinct. Equal pages (most are zero in both) are not written, so they use no memory.
            let (to, from) = unsafe (mapping.baseAddress + offset, other.mapping.baseAddress + offset)
            if unsafe memcmp(to, from, page) != 0 { unsafe memcpy(to, from, page) }
        }
    }

    /// Reads an integer, little-endian, at any alignment. Not atomic.
    @inlinable
    @inline(__always)
    public func load<Value: FixedWidthInteger & BitwiseCopyable>(_ address: UInt64, as type: Value.Type = Value.self)
        throws(GuestAddressError) -> Value
    {
        // SAFETY: the check covers the value's size; any bit pattern is a value of an integer.
        try unsafe Value(littleEndian: pointer(address, byteCount: MemoryLayout<Value>.size).loadUnaligned(as: Value.self))
    }

    /// Writes an integer, little-endian, at any alignment. Not atomic.
    @inlinable
    public func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at address: UInt64) throws(GuestAddressError) {
        // SAFETY: the check covers the value's size.
        try unsafe pointer(address, byteCount: MemoryLayout<Value>.size).storeBytes(of: value.littleEndian, as: Value.self)
    }

    /// Reads a naturally aligned 16-bit word that the guest may write concurrently (a virtqueue's index), with acquire ordering.
    public func loadAcquiring(_ address: UInt64) throws(GuestAddressError) -> UInt16 {
        guard address % 2 == 0 else { throw GuestAddressError(address: address, byteCount: 2) }
        // SAFETY: in memory and aligned, both checked; Atomic<UInt16> has the layout of UInt16.
        return try unsafe pointer(address, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self).pointee.load(ordering: .acquiring)
    }

    /// Writes a naturally aligned 16-bit word that the guest may read concurrently, with release ordering.
    public func storeReleasing(_ value: UInt16, at address: UInt64) throws(GuestAddressError) {
        guard address % 2 == 0 else { throw GuestAddressError(address: address, byteCount: 2) }
        // SAFETY: in memory and aligned, both checked; Atomic<UInt16> has the layout of UInt16.
        try unsafe pointer(address, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self).pointee.store(value, ordering: .releasing)
    }

    /// Host address (HVA) of `byteCount` bytes of the guest, for system calls that read or write them (readv, writev, preadv, pwritev) while
    /// this object lives. Do not use it otherwise: the guest can change the bytes at any time.
    public func pointer(_ address: UInt64, byteCount: Int) throws(GuestAddressError) -> UnsafeMutableRawPointer {
        guard let offset = offset(address, byteCount) else { throw GuestAddressError(address: address, byteCount: byteCount) }
        // SAFETY: offset(_:_:) returns only offsets whose bytes all lie in the mapping.
        return unsafe mapping.baseAddress + offset
    }

    /// Offset in the mapping of bytes that all lie in one region, or nil.
    @inline(__always)
    private func offset(_ address: UInt64, _ byteCount: Int) -> Int? {
        guard byteCount >= 0 else { return nil }
        let count = UInt64(byteCount)
        if address < lowByteCount {
            return count <= lowByteCount &- address ? Int(address) : nil
        }
        guard address >= GuestMemory.holeEnd, address &- GuestMemory.holeEnd < highByteCount else { return nil }
        let inside = address &- GuestMemory.holeEnd
        return count <= highByteCount &- inside ? Int(lowByteCount &+ inside) : nil
    }
}
