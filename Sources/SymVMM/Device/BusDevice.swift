// SPDX-License-Identifier: Apache-2.0

/// A device that handles the guest's accesses to its ports or its MMIO registers.
///
/// A class, not a protocol: the run loop calls it on every exit, and a class call crosses no existential and allocates nothing.
/// The vCPUs' threads call `read` and `write`, several at once in an SMP guest, so a device with state needs its own lock. It must hold the
/// lock for a few instructions only, and never while it waits. Offset and size come from the guest; the bus has checked only that the first
/// byte lies in the device's range (ports) or that the whole access does (MMIO).
open class BusDevice: @unchecked Sendable {
    /// The name in statistics and messages, for instance `serial` or `virtio-blk.root`.
    public let name: String

    /// Creates a device with a name.
    public init(name: String) {
        self.name = name
    }

    /// Handles a read.
    ///
    /// - Parameters:
    ///   - offset: bytes from the start of the device's range.
    ///   - size: 1, 2, 4 or 8 bytes.
    /// - Returns: the value in the low bytes; all ones if nothing responds.
    open func read(offset: UInt64, size: Int) -> UInt64 {
        .max
    }

    /// Handles a write.
    ///
    /// - Parameters:
    ///   - offset: bytes from the start of the device's range.
    ///   - size: 1, 2, 4 or 8 bytes.
    ///   - value: the value in the low `size` bytes, the rest zero.
    ///   - context: the vCPU that writes.
    open func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
    }

    /// Suspends the device's own threads, while no vCPU runs. After it returns, the device does not access guest memory and raises no
    /// interrupt, and its state can be saved.
    open func suspend() {
    }

    /// Resumes the device after `suspend()` or after a restore. Raises its interrupt again if the guest has not handled the cause.
    open func resume() {
    }
}
