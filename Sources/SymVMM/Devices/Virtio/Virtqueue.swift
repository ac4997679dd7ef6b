// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Size and addresses of a split virtqueue, as the guest has set them (virtio 1.2, section 2.7).
public struct VirtqueueLayout: Codable, Sendable, Equatable {
    /// Number of descriptors, a power of two.
    public var size: UInt16
    /// GPA of the descriptor table.
    public var descriptorTable: UInt64
    /// GPA of the available ring (the driver area).
    public var availableRing: UInt64
    /// GPA of the used ring (the device area).
    public var usedRing: UInt64

    /// Whether a queue can have this many descriptors: a power of two.
    static func isSize(_ size: UInt16) -> Bool {
        size > 0 && size & (size - 1) == 0
    }

    /// Checks the size, the alignment, and that every part lies in memory, including the event indices.
    func check(maximumSize: UInt16, _ memory: GuestMemory) throws(VirtqueueFault) {
        guard VirtqueueLayout.isSize(size), size <= maximumSize else { throw .badSize }
        let count = Int(size)
        guard descriptorTable % 16 == 0, memory.contains(descriptorTable, byteCount: 16 * count),
            availableRing % 2 == 0, memory.contains(availableRing, byteCount: 6 + 2 * count),
            usedRing % 4 == 0, memory.contains(usedRing, byteCount: 6 + 8 * count)
        else { throw .badRingAddress }
    }
}

/// The device's side of a split virtqueue (virtio 1.2, section 2.7).
///
/// Any thread. A lock protects the indices; a method holds it for at most one chain. The guest may be hostile: if a ring is invalid, the method
/// marks the queue broken, which asks the guest to reset the device. A broken queue appears empty.
public final class Virtqueue: Sendable {
    /// Index of the queue in its device.
    public let index: Int
    /// Size and addresses.
    public let layout: VirtqueueLayout
    /// The notifier that the guest rings after it has added buffers.
    public let notifier: QueueNotifier

    private let memory: GuestMemory
    private let interrupt: VirtioInterrupt
    private let hasEventIndex: Bool
    private let allowIndirect: Bool
    /// The maximum number of descriptors in a chain, with those of an indirect table: the largest size of the device's queue.
    private let chainLimit: Int
    let ring: Mutex<Ring>

    struct Ring {
        /// The available index up to which the device has taken chains.
        var nextAvailable: UInt16 = 0
        /// The used index that the guest sees.
        var nextUsed: UInt16 = 0
        /// Chains in the used ring beyond `nextUsed`, which the guest does not see yet.
        var staged: UInt16 = 0
        /// The used index at the last interrupt, or at the last one that the guest suppressed.
        var signalled: UInt16 = 0
        var fault: VirtqueueFault?
    }

    /// Creates a queue.
    ///
    /// - Parameter state: the indices from which the queue continues.
    /// - Throws: `VirtqueueFault` if the layout is invalid.
    init(
        index: Int, layout: VirtqueueLayout, maximumSize: UInt16, features: UInt64, memory: GuestMemory, notifier: QueueNotifier,
        interrupt: VirtioInterrupt, state: VirtqueueState = VirtqueueState()
    ) throws(VirtqueueFault) {
        try layout.check(maximumSize: maximumSize, memory)
        self.index = index
        self.layout = layout
        self.notifier = notifier
        self.memory = memory
        self.interrupt = interrupt
        hasEventIndex = features & VirtioFeature.eventIndex != 0
        allowIndirect = features & VirtioFeature.indirectDescriptors != 0
        chainLimit = Int(maximumSize)
        ring = Mutex(
            Ring(nextAvailable: state.nextAvailable, nextUsed: state.nextUsed, signalled: state.signalled, fault: state.fault))
    }

    /// Why the queue is broken; nil if it is not.
    public var fault: VirtqueueFault? {
        ring.withLock { $0.fault }
    }

    /// Takes the next request into `chain`.
    ///
    /// - Returns: false if there is none or the queue is broken.
    public func pop(into chain: DescriptorChain) -> Bool {
        load(chain, andTake: true) != nil
    }

    /// Loads the next request into `chain`, and does not take it yet.
    ///
    /// - Returns: its position, for `take(at:)`; nil if there is none or the queue is broken.
    func peek(into chain: DescriptorChain) -> UInt16? {
        load(chain, andTake: false)
    }

    /// Takes the request that `peek(into:)` has loaded. The chain stays as it was loaded, whatever the guest has written since.
    ///
    /// - Returns: false if another thread has taken it.
    func take(at position: UInt16) -> Bool {
        ring.withLock { ring in
            guard ring.fault == nil, ring.nextAvailable == position else { return false }
            ring.nextAvailable &+= 1
            return true
        }
    }

    /// Loads the next request. Returns its position; nil if there is none or the queue is broken.
    @inline(__always)
    private func load(_ chain: DescriptorChain, andTake isTaken: Bool) -> UInt16? {
        do throws(VirtqueueFault) {
            return try ring.withLock { ring throws(VirtqueueFault) -> UInt16? in
                guard ring.fault == nil, try waiting(ring) > 0 else { return nil }
                let position = ring.nextAvailable
                let slot = layout.availableRing &+ 4 &+ 2 &* UInt64(position % layout.size)
                let head = try access { () throws(GuestAddressError) in try memory.load(slot, as: UInt16.self) }
                try chain.load(head: head, layout: layout, limit: chainLimit, allowIndirect: allowIndirect, memory: memory)
                if isTaken { ring.nextAvailable = position &+ 1 }
                return position
            }
        } catch {
            markBroken(error)
            return nil
        }
    }

    /// Returns a chain to the guest. `interruptIfWanted()` then notifies it.
    ///
    /// - Parameters:
    ///   - chain: a chain of this queue.
    ///   - written: bytes from the start of the writable part that were written.
    public func push(_ chain: DescriptorChain, written: Int) {
        finish { ring throws(VirtqueueFault) in
            try stage(chain.head, written, &ring)
            try publish(&ring)
        }
    }

    /// Writes a chain to the used ring. The guest sees it after `publish()`.
    func stage(_ chain: DescriptorChain, written: Int) {
        finish { ring throws(VirtqueueFault) in try stage(chain.head, written, &ring) }
    }

    /// Publishes all staged chains together.
    func publish() {
        finish { ring throws(VirtqueueFault) in try publish(&ring) }
    }

    /// Drops all staged chains and returns the last `popped` chains to the available ring: the next `pop` takes them again.
    func rollBack(popped: UInt16) {
        ring.withLock { ring in
            ring.staged = 0
            ring.nextAvailable &-= popped
        }
    }

    /// Raises the queue's interrupt if there are new used buffers and the guest has not suppressed it (virtio 1.2, section 2.7.7.2).
    public func interruptIfWanted() {
        do throws(VirtqueueFault) {
            let wanted = try ring.withLock { ring throws(VirtqueueFault) in
                guard ring.fault == nil, ring.signalled != ring.nextUsed else { return false }
                // Pairs with the driver's barrier: it writes its event index, then reads the used index; we wrote the used index, now
                // read the event index.
                atomicMemoryFence(ordering: .sequentiallyConsistent)
                let old = ring.signalled
                ring.signalled = ring.nextUsed
                guard hasEventIndex else {
                    let flags = try access { () throws(GuestAddressError) in try memory.loadAcquiring(layout.availableRing) }
                    return flags & 1 == 0  // VIRTQ_AVAIL_F_NO_INTERRUPT
                }
                let place = layout.availableRing &+ 4 &+ 2 &* UInt64(layout.size)
                let event = try access { () throws(GuestAddressError) in try memory.loadAcquiring(place) }
                return ring.nextUsed &- event &- 1 < ring.nextUsed &- old
            }
            if wanted { interrupt.buffersUsed(queue: index) }
        } catch {
            markBroken(error)
        }
    }

    /// Asks the guest to ring the notifier for the next buffers.
    ///
    /// - Parameter seen: number of available chains that the caller has already seen.
    /// - Returns: whether there are more available chains, for which the guest may not have rung.
    public func enableNotifications(beyond seen: UInt16 = 0) -> Bool {
        do throws(VirtqueueFault) {
            return try ring.withLock { ring throws(VirtqueueFault) in
                guard ring.fault == nil else { return false }
                try access { () throws(GuestAddressError) in
                    if hasEventIndex {
                        try memory.storeReleasing(ring.nextAvailable &+ seen, at: layout.usedRing &+ 4 &+ 8 &* UInt64(layout.size))
                    } else {
                        try memory.storeReleasing(0, at: layout.usedRing)
                    }
                }
                // Pairs with the driver's barrier: it writes the available index, then reads whether to ring; we wrote that, now read the index.
                atomicMemoryFence(ordering: .sequentiallyConsistent)
                return try waiting(ring) > seen
            }
        } catch {
            markBroken(error)
            return false
        }
    }

    /// Suppresses notifications. The guest may still ring.
    public func disableNotifications() {
        // With the event index, an old index suppresses notifications.
        guard !hasEventIndex else { return }
        finish { _ throws(VirtqueueFault) in
            try access { () throws(GuestAddressError) in try memory.storeReleasing(1, at: layout.usedRing) }  // VIRTQ_USED_F_NO_NOTIFY
        }
    }

    /// Marks the queue broken and asks the guest to reset the device.
    public func markBroken(_ fault: VirtqueueFault) {
        let isFirst = ring.withLock { ring in
            guard ring.fault == nil else { return false }
            ring.fault = fault
            return true
        }
        if isFirst { interrupt.requireReset() }
    }

    /// Number of available chains.
    private func waiting(_ ring: Ring) throws(VirtqueueFault) -> UInt16 {
        let available = try access { () throws(GuestAddressError) in try memory.loadAcquiring(layout.availableRing &+ 2) }
        let count = available &- ring.nextAvailable
        guard count <= layout.size else { throw .availableIndexJumped }
        return count
    }

    private func stage(_ head: UInt16, _ written: Int, _ ring: inout Ring) throws(VirtqueueFault) {
        let slot = (ring.nextUsed &+ ring.staged) % layout.size
        let element = UInt64(head) | UInt64(UInt32(clamping: written)) << 32
        let place = layout.usedRing &+ 4 &+ 8 &* UInt64(slot)
        try access { () throws(GuestAddressError) in try memory.store(element, at: place) }
        ring.staged &+= 1
    }

    private func publish(_ ring: inout Ring) throws(VirtqueueFault) {
        ring.nextUsed &+= ring.staged
        ring.staged = 0
        let index = ring.nextUsed
        try access { () throws(GuestAddressError) in try memory.storeReleasing(index, at: layout.usedRing &+ 2) }
    }

    private func finish(_ body: (inout Ring) throws(VirtqueueFault) -> Void) {
        do throws(VirtqueueFault) {
            try ring.withLock { ring throws(VirtqueueFault) in
                guard ring.fault == nil else { return }
                try body(&ring)
            }
        } catch {
            markBroken(error)
        }
    }

    /// Accesses the rings. `init` has checked them, so the access does not fail; if it does, marks the queue broken.
    @inline(__always)
    private func access<Value>(_ body: () throws(GuestAddressError) -> Value) throws(VirtqueueFault) -> Value {
        do throws(GuestAddressError) {
            return try body()
        } catch {
            throw .badRingAddress
        }
    }
}
