// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Size and places of a split virtqueue, as the guest gave them (virtio 1.2, section 2.7).
public struct VirtqueueLayout: Sendable, Equatable {
    /// Number of descriptors, a power of two.
    public var size: UInt16
    /// GPA of the descriptor table.
    public var descriptorTable: UInt64
    /// GPA of the available ring (the driver area).
    public var availableRing: UInt64
    /// GPA of the used ring (the device area).
    public var usedRing: UInt64

    /// Checks size, alignment and that every part lies in memory, the event indices included.
    func check(maximumSize: UInt16, _ memory: GuestMemory) throws(VirtqueueFault) {
        guard size > 0, size & (size - 1) == 0, size <= maximumSize else { throw .badSize }
        let count = Int(size)
        guard descriptorTable % 16 == 0, memory.contains(descriptorTable, byteCount: 16 * count),
            availableRing % 2 == 0, memory.contains(availableRing, byteCount: 6 + 2 * count),
            usedRing % 4 == 0, memory.contains(usedRing, byteCount: 6 + 8 * count)
        else { throw .badRingAddress }
    }
}

/// The device's side of a split virtqueue (virtio 1.2, section 2.7).
///
/// Any thread may call; a lock of its own, held for the time of one chain's walk, keeps the indices. The guest is hostile: whatever it
/// writes in the rings, a call answers or marks the queue broken, which asks the guest to reset the device. A broken queue looks empty.
public final class Virtqueue: Sendable {
    /// Number of the queue in its device.
    public let index: Int
    /// Where it lies.
    public let layout: VirtqueueLayout
    /// What the guest rings when it has added buffers.
    public let notifier: QueueNotifier

    private let memory: GuestMemory
    private let interrupt: VirtioInterrupt
    private let hasEventIndex: Bool
    private let allowIndirect: Bool
    private let ring = Mutex(Ring())

    private struct Ring {
        /// The available index up to which chains were taken.
        var nextAvailable: UInt16 = 0
        /// The used index that the guest sees.
        var nextUsed: UInt16 = 0
        /// Chains written to the used ring beyond it.
        var staged: UInt16 = 0
        /// The used index when the guest was last told, or not told because it did not want to be.
        var signalled: UInt16 = 0
        var fault: VirtqueueFault?
    }

    /// Takes a queue into service.
    ///
    /// - Throws: `VirtqueueFault` when the layout is bad.
    init(
        index: Int, layout: VirtqueueLayout, maximumSize: UInt16, features: UInt64, memory: GuestMemory, notifier: QueueNotifier,
        interrupt: VirtioInterrupt
    ) throws(VirtqueueFault) {
        try layout.check(maximumSize: maximumSize, memory)
        self.index = index
        self.layout = layout
        self.notifier = notifier
        self.memory = memory
        self.interrupt = interrupt
        hasEventIndex = features & VirtioFeature.eventIndex != 0
        allowIndirect = features & VirtioFeature.indirectDescriptors != 0
    }

    /// Why the queue is broken, or nil.
    public var fault: VirtqueueFault? {
        ring.withLock { $0.fault }
    }

    /// Takes the next request into `chain`.
    ///
    /// - Returns: false when there is none or the queue is broken.
    public func pop(into chain: DescriptorChain) -> Bool {
        do throws(VirtqueueFault) {
            return try ring.withLock { ring throws(VirtqueueFault) in
                guard ring.fault == nil, try waiting(ring) > 0 else { return false }
                let slot = layout.availableRing &+ 4 &+ 2 &* UInt64(ring.nextAvailable % layout.size)
                let head = try access { () throws(GuestAddressError) in try memory.load(slot, as: UInt16.self) }
                try chain.load(head: head, layout: layout, allowIndirect: allowIndirect, memory: memory)
                ring.nextAvailable &+= 1
                return true
            }
        } catch {
            markBroken(error)
            return false
        }
    }

    /// Gives a chain back to the guest. `interruptIfWanted()` tells it.
    ///
    /// - Parameter written: bytes from the start of the writable part that were written.
    public func push(_ chain: DescriptorChain, written: Int) {
        finish { ring throws(VirtqueueFault) in
            try stage(chain.head, written, &ring)
            try publish(&ring)
        }
    }

    /// Writes a chain to the used ring, but does not show it to the guest before `publish()`.
    func stage(_ chain: DescriptorChain, written: Int) {
        finish { ring throws(VirtqueueFault) in try stage(chain.head, written, &ring) }
    }

    /// Shows all staged chains to the guest at once.
    func publish() {
        finish { ring throws(VirtqueueFault) in try publish(&ring) }
    }

    /// Takes back what was staged and the last `popped` chains that were taken: the next `pop` takes them again.
    func rollBack(popped: UInt16) {
        ring.withLock { ring in
            ring.staged = 0
            ring.nextAvailable &-= popped
        }
    }

    /// Raises the queue's interrupt if there is news and the guest wants to hear it (virtio 1.2, section 2.7.7.2).
    public func interruptIfWanted() {
        do throws(VirtqueueFault) {
            let wanted = try ring.withLock { ring throws(VirtqueueFault) in
                guard ring.fault == nil, ring.signalled != ring.nextUsed else { return false }
                // The guest writes its wish, then looks at the used index; here the used index was written, now its wish is read.
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
            if wanted { interrupt.buffersUsed() }
        } catch {
            markBroken(error)
        }
    }

    /// Asks the guest to ring the notifier for the next buffers.
    ///
    /// - Parameter seen: chains that wait already and that the caller knows of.
    /// - Returns: whether more than these are waiting already, of which the guest may have said nothing.
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
                // The guest writes its index, then looks whether to ring; here the wish was written, now the index is read.
                atomicMemoryFence(ordering: .sequentiallyConsistent)
                return try waiting(ring) > seen
            }
        } catch {
            markBroken(error)
            return false
        }
    }

    /// Tells the guest that it need not ring. It may all the same.
    public func disableNotifications() {
        // With the event index, one that lies behind says the same.
        guard !hasEventIndex else { return }
        finish { _ throws(VirtqueueFault) in
            try access { () throws(GuestAddressError) in try memory.storeReleasing(1, at: layout.usedRing) }  // VIRTQ_USED_F_NO_NOTIFY
        }
    }

    /// Takes the queue out of service and asks the guest to reset the device.
    public func markBroken(_ fault: VirtqueueFault) {
        let isFirst = ring.withLock { ring in
            guard ring.fault == nil else { return false }
            ring.fault = fault
            return true
        }
        if isFirst { interrupt.requireReset() }
    }

    /// How many chains wait.
    private func waiting(_ ring: Ring) throws(VirtqueueFault) -> UInt16 {
        let available = try access { () throws(GuestAddressError) in try memory.loadAcquiring(layout.availableRing &+ 2) }
        let count = available &- ring.nextAvailable
        guard count <= layout.size else { throw .availableIndexJumped }
        return count
    }

    private func stage(_ head: UInt16, _ written: Int, _ ring: inout Ring) throws(VirtqueueFault) {
        let slot = (ring.nextUsed &+ ring.staged) % layout.size
        let element = UInt64(head) | UInt64(UInt32(truncatingIfNeeded: written)) << 32
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

    /// The rings were checked when the queue was made, so this never fails; were it to, the queue is broken rather than the VMM.
    @inline(__always)
    private func access<Value>(_ body: () throws(GuestAddressError) -> Value) throws(VirtqueueFault) -> Value {
        do throws(GuestAddressError) {
            return try body()
        } catch {
            throw .badRingAddress
        }
    }
}
