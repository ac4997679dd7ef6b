// SPDX-License-Identifier: Apache-2.0

public import VMMBase

internal import Glibc
internal import Synchronization
internal import VMMModel

/// A guest address that does not lie in the guest's memory, or not with all its bytes.
public struct GuestAddressError: Error, Equatable, Sendable {
    /// Guest-physical address (GPA) of the first byte asked for.
    public let address: UInt64
    /// Bytes asked for.
    public let byteCount: Int
}

/// The guest's memory: one region below the 3 GiB hole and, when there is more, one above 4 GiB.
///
/// Guest memory is volatile: vCPUs write it at any time. So no reference and no slice leaves this type; bytes go in and out by copies that
/// check their bounds, and words that both sides write are atomics. Every address comes from the guest and may be wrong: each call checks
/// that all bytes lie in one region. All calls may be made on any thread.
public final class GuestMemory: Sendable {
    /// Start of the hole that device registers, the IO-APIC and the local APIC lie in.
    public static let holeStart: UInt64 = 3 << 30
    /// End of the hole; memory goes on here.
    public static let holeEnd: UInt64 = 4 << 30
    /// The page size that memory is counted in.
    public static let pageSize = MachineLimits.pageByteCount

    /// Memory slots of KVM that guest memory takes: 0 and 1.
    static let slotCount: UInt32 = 2

    /// Guest memory in bytes, both regions together.
    public let byteCount: UInt64
    /// Bytes below the hole.
    public let lowByteCount: UInt64
    /// Bytes from 4 GiB up.
    public let highByteCount: UInt64

    private let mapping: MemoryMapping

    /// Reserves the address space; pages are backed when first touched.
    ///
    /// - Parameter byteCount: a multiple of 4096, at least 1 MiB and at most 1 TiB.
    public init(byteCount: UInt64) throws(KVMError) {
        guard MachineLimits.memoryByteCount.contains(byteCount), byteCount % GuestMemory.pageSize == 0 else {
            throw KVMError(
                call: "guest memory", errno: EINVAL, advice: "\(byteCount) bytes: give 1 MiB to 1 TiB, whole pages of 4096 bytes")
        }
        mapping = try MemoryMapping(anonymous: Int(byteCount))
        self.byteCount = byteCount
        lowByteCount = min(byteCount, GuestMemory.holeStart)
        highByteCount = byteCount - lowByteCount
        // SAFETY: the whole mapping, which stays. Only advice: guest pages are of no use in a core dump.
        _ = unsafe madvise(mapping.baseAddress, mapping.byteCount, MADV_DONTDUMP)
    }

    /// Tells KVM where the memory is: slots 0 and 1. The object has to outlive the virtual machine's run.
    func map(into machine: borrowing KVMVirtualMachine) throws(KVMError) {
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
    /// - Parameter byteCount: the caller bounds it; it is not taken from the guest unchecked.
    public func read(_ address: UInt64, byteCount: Int) throws(GuestAddressError) -> [UInt8] {
        let source = try unsafe pointer(address, byteCount: byteCount)
        // SAFETY: checked just above.
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
        // SAFETY: checked just above, for this many bytes.
        unsafe bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { unsafe memcpy(destination, base, source.count) }
        }
    }

    /// Sets bytes to zero.
    public func zero(_ address: UInt64, byteCount: Int) throws(GuestAddressError) {
        let destination = try unsafe pointer(address, byteCount: byteCount)
        // SAFETY: checked just above.
        unsafe memset(destination, 0, byteCount)
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

    /// Reads a naturally aligned 16-bit word that the guest writes meanwhile (a virtqueue's index), with acquire ordering.
    public func loadAcquiring(_ address: UInt64) throws(GuestAddressError) -> UInt16 {
        guard address % 2 == 0 else { throw GuestAddressError(address: address, byteCount: 2) }
        // SAFETY: in memory and aligned, both checked; Atomic<UInt16> has the layout of UInt16.
        return try unsafe pointer(address, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self).pointee.load(ordering: .acquiring)
    }

    /// Writes a naturally aligned 16-bit word that the guest reads meanwhile, with release ordering.
    public func storeReleasing(_ value: UInt16, at address: UInt64) throws(GuestAddressError) {
        guard address % 2 == 0 else { throw GuestAddressError(address: address, byteCount: 2) }
        // SAFETY: in memory and aligned, both checked; Atomic<UInt16> has the layout of UInt16.
        try unsafe pointer(address, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self).pointee.store(value, ordering: .releasing)
    }

    /// Host address (HVA) of `byteCount` bytes of the guest, for system calls that read or write them (readv, writev, preadv, pwritev) while
    /// this object lives. Not for anything else: the guest changes the bytes at will.
    public func pointer(_ address: UInt64, byteCount: Int) throws(GuestAddressError) -> UnsafeMutableRawPointer {
        guard let offset = offset(address, byteCount) else { throw GuestAddressError(address: address, byteCount: byteCount) }
        // SAFETY: offset(_:_:) answers only offsets whose bytes all lie in the mapping.
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
