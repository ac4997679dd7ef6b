// SPDX-License-Identifier: Apache-2.0

/// A device that answers the guest's accesses to its ports or its MMIO registers.
///
/// A class, not a protocol: the run loop calls it on every exit, and a class call crosses no existential and allocates nothing.
/// Both calls are made on a vCPU's thread, on several at once in an SMP guest: a device with state brings its own lock, held for a few
/// instructions, never while it waits. Offset and size come from the guest; the bus has checked only that the access lies in the range.
open class BusDevice: @unchecked Sendable {
    /// The name in statistics and messages, for instance `serial` or `virtio-blk.root`.
    public let name: String

    /// Names the device.
    public init(name: String) {
        self.name = name
    }

    /// Answers a read.
    ///
    /// - Parameters:
    ///   - offset: bytes from the start of the device's range.
    ///   - size: 1, 2, 4 or 8 bytes.
    /// - Returns: the value in the low bytes; all ones when there is nothing.
    open func read(offset: UInt64, size: Int) -> UInt64 {
        .max
    }

    /// Takes a write.
    ///
    /// - Parameters:
    ///   - offset: bytes from the start of the device's range.
    ///   - size: 1, 2, 4 or 8 bytes.
    ///   - value: the value in the low `size` bytes, the rest zero.
    ///   - context: the vCPU that writes.
    open func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
    }
}
