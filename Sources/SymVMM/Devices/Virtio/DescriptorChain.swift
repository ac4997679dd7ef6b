// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The buffers of one request: those the device reads, then those it writes (virtio 1.2, section 2.7.4).
///
/// Made once and loaded for each request, so that a request allocates nothing. One thread at a time uses it.
@safe public final class DescriptorChain {
    /// The longest chain that is taken, counting the descriptors of an indirect table: the largest queue that devices offer here.
    public static let maximumCount = 256

    /// Index of the first descriptor, by which the used ring names the chain.
    public private(set) var head: UInt16 = 0
    /// What the device reads.
    public var readable: GuestVectors
    /// What the device writes.
    public var writable: GuestVectors

    private let vectors: UnsafeMutablePointer<iovec>

    /// Makes an empty chain.
    public init() {
        unsafe vectors = .allocate(capacity: DescriptorChain.maximumCount)
        unsafe vectors.initialize(repeating: iovec(), count: DescriptorChain.maximumCount)
        unsafe readable = GuestVectors(base: vectors, count: 0, byteCount: 0)
        unsafe writable = GuestVectors(base: vectors, count: 0, byteCount: 0)
    }

    deinit {
        // SAFETY: allocated in init; the views die with their owner.
        unsafe vectors.deallocate()
    }

    /// What has been gathered of a chain.
    private struct Walk {
        var descriptors = 0
        var vectors = 0
        var readableVectors = 0
        var readableBytes: UInt64 = 0
        var writableBytes: UInt64 = 0
    }

    /// A descriptor, copied out of the guest once.
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

    /// Follows the chain from `head`, checking everything.
    func load(head: UInt16, layout: VirtqueueLayout, allowIndirect: Bool, memory: GuestMemory) throws(VirtqueueFault) {
        var walk = Walk()
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

    /// Follows a table of descriptors (virtio 1.2, section 2.7.5.3). Its own write flag means nothing.
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
        // Counted before anything else, empty ones too: this ends every loop.
        guard walk.descriptors < DescriptorChain.maximumCount else { throw .chainTooLong }
        walk.descriptors += 1
        guard descriptor.isWritable || walk.vectors == walk.readableVectors else { throw .readableAfterWritable }
        guard descriptor.length > 0 else { return }
        let host: UnsafeMutableRawPointer
        do throws(GuestAddressError) {
            unsafe host = try memory.pointer(descriptor.address, byteCount: Int(descriptor.length))
        } catch {
            throw .badBufferAddress
        }
        // SAFETY: there is a vector for each of the maximumCount descriptors that are let through.
        unsafe vectors[walk.vectors] = iovec(iov_base: host, iov_len: Int(descriptor.length))
        walk.vectors += 1
        if descriptor.isWritable {
            walk.writableBytes += UInt64(descriptor.length)
        } else {
            walk.readableVectors += 1
            walk.readableBytes += UInt64(descriptor.length)
        }
        guard walk.readableBytes + walk.writableBytes < 1 << 32 else { throw .chainTooLarge }
    }
}
