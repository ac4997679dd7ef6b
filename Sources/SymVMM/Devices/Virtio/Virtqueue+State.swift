// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// The indices of the device's side of a queue. All values are safe: indices that do not match the guest's rings break the queue.
public struct VirtqueueState: Codable, Sendable, Equatable {
    /// The available index up to which the device has taken chains.
    var nextAvailable: UInt16 = 0
    /// The used index that the guest sees.
    var nextUsed: UInt16 = 0
    /// The used index at the last interrupt, or at the last one that the guest suppressed.
    var signalled: UInt16 = 0
    /// Why the queue is broken; nil if it is not.
    var fault: VirtqueueFault?
}

extension Virtqueue {
    /// Returns the indices. No thread may use the queue: no chain is in flight, and none is staged.
    func saveState() -> VirtqueueState {
        ring.withLock { ring in
            VirtqueueState(nextAvailable: ring.nextAvailable, nextUsed: ring.nextUsed, signalled: ring.signalled, fault: ring.fault)
        }
    }
}
