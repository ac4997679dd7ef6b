// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The buffers of one request: first those that the device reads, then those that it writes (virtio 1.2, section 2.7.4).
///
/// A device creates a chain once and loads it for each request, so that a request allocates nothing. One thread at a time.
@safe public final class DescriptorChain {
    /// The maximum number of descriptors in a chain, including those of an indirect table: the largest queue size of symvmm's devices.
    public static let maximumCount = 256

    /// Index of the first descriptor, which identifies the chain in the used ring.
    public private(set) var head: UInt16 = 0
    /// The buffers that the device reads.
    public var readable: GuestVectors
    /// The buffers that the device writes.
    public var writable: GuestVectors

    private let storage: UnsafeMutablePointer<iovec>
    private let vectors: UnsafeMutablePointer<iovec>

    /// Creates an empty chain.
    public init() {
        // SAFETY: the object owns the vectors until deinit; the views begin at the second vector and are empty. The first one is for
        // GuestVectors.replaceFirst(_:with:).
        unsafe storage = .allocate(capacity: DescriptorChain.maximumCount + 1)
        unsafe storage.initialize(repeating: iovec(), count: DescriptorChain.maximumCount + 1)
        unsafe vectors = storage + 1
        unsafe readable = GuestVectors(base: vectors, count: 0, byteCount: 0)
        unsafe writable = GuestVectors(base: vectors, count: 0, byteCount: 0)
    }

    deinit {
        // SAFETY: init allocated the vectors, and the views are valid only while the chain lives.
        unsafe storage.deallocate()
    }

    /// The part of a chain that has been loaded.
    private struct Walk {
        let limit: Int
        var descriptors = 0
        var vectors = 0
        var readableVectors = 0
        var readableBytes: UInt64 = 0
        var writableBytes: UInt64 = 0
    }

    /// A descriptor. The VMM copies it from guest memory once, so that the guest cannot change it after the checks.
    private struct Descriptor {
        let address: UInt64
        let length: UInt32
        let flags: UInt16
        let next: UInt16

        var hasNext: Bool { flags & 1 != 0 }  // VIRTQ_DESC_F_NEXT
        var isWritable: Bool { flags & 2 != 0 }  // VIRTQ_DESC_F_WRITE
        var isIndirect: Bool { flags & 4 != 0 }  // VIRTQ_DESC_F_INDIRECT

        init(at address: UInt64, in memory: GuestMemory) throws(GuestAddressError) {
            self.address = try memory.load(address)
            length = try memory.load(address &+ 8)
            flags = try memory.load(address &+ 12)
            next = try memory.load(address &+ 14)
        }
    }

    /// Loads the chain that starts at `head`, and checks every descriptor.
    ///
    /// - Parameter limit: the maximum number of descriptors, with those of an indirect table.
    func load(head: UInt16, layout: VirtqueueLayout, limit: Int, allowIndirect: Bool, memory: GuestMemory) throws(VirtqueueFault) {
        var walk = Walk(limit: min(limit, DescriptorChain.maximumCount))
        var index = head
        while true {
            guard index < layout.size else { throw .descriptorOutOfRange }
            guard walk.descriptors < Int(layout.size) else { throw .chainTooLong }
            let descriptor = try DescriptorChain.fetch(layout.descriptorTable &+ UInt64(index) &* 16, memory, .badRingAddress)
            if descriptor.isIndirect {
                guard allowIndirect, !descriptor.hasNext else { throw .badIndirectTable }
                try loadIndirect(descriptor, &walk, memory)
                break
            }
            try append(descriptor, &walk, memory)
            guard descriptor.hasNext else { break }
            index = descriptor.next
        }
        self.head = head
        unsafe readable = GuestVectors(base: vectors, count: walk.readableVectors, byteCount: Int(walk.readableBytes))
        // SAFETY: the readable vectors come first, and all of them fit.
        let rest = unsafe vectors + walk.readableVectors
        let count = walk.vectors - walk.readableVectors
        unsafe writable = GuestVectors(base: rest, count: count, byteCount: Int(walk.writableBytes))
    }

    /// Loads an indirect table (virtio 1.2, section 2.7.5.3). Ignores the write flag of the descriptor that points to it.
    private func loadIndirect(_ table: Descriptor, _ walk: inout Walk, _ memory: GuestMemory) throws(VirtqueueFault) {
        let count = table.length / 16
        guard table.length % 16 == 0, count > 0, memory.contains(table.address, byteCount: Int(table.length)) else {
            throw .badIndirectTable
        }
        var index: UInt16 = 0
        while true {
            guard UInt32(index) < count else { throw .descriptorOutOfRange }
            let descriptor = try DescriptorChain.fetch(table.address &+ UInt64(index) &* 16, memory, .badIndirectTable)
            guard !descriptor.isIndirect else { throw .badIndirectTable }
            try append(descriptor, &walk, memory)
            guard descriptor.hasNext else { return }
            index = descriptor.next
        }
    }

    private static func fetch(_ address: UInt64, _ memory: GuestMemory, _ fault: VirtqueueFault) throws(VirtqueueFault) -> Descriptor {
        do throws(GuestAddressError) {
            return try Descriptor(at: address, in: memory)
        } catch {
            throw fault
        }
    }

    private func append(_ descriptor: Descriptor, _ walk: inout Walk, _ memory: GuestMemory) throws(VirtqueueFault) {
        // Count every descriptor, also an empty one: this ends every loop.
        guard walk.descriptors < walk.limit else { throw .chainTooLong }
        walk.descriptors += 1
        guard descriptor.isWritable || walk.vectors == walk.readableVectors else { throw .readableAfterWritable }
        guard descriptor.length > 0 else { return }
        let host: UnsafeMutableRawPointer
        do throws(GuestAddressError) {
            // SAFETY: pointer(_:byteCount:) checks the range, and only system calls and bounded copies use the address.
            unsafe host = try memory.pointer(descriptor.address, byteCount: Int(descriptor.length))
        } catch {
            throw .badBufferAddress
        }
        // SAFETY: the guard admits at most maximumCount descriptors, and there is a vector for each.
        unsafe vectors[walk.vectors] = iovec(iov_base: host, iov_len: Int(descriptor.length))
        walk.vectors += 1
        if descriptor.isWritable {
            walk.writableBytes += UInt64(descriptor.length)
        } else {
            walk.readableVectors += 1
            walk.readableBytes += UInt64(descriptor.length)
        }
        guard walk.readableBytes + walk.writableBytes <= 1 << 32 else { throw .chainTooLarge }
    }
}
