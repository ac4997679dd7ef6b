// SPDX-License-Identifier: Apache-2.0

/// Why the storage could not do what a request asks.
public enum StorageError: Error, Equatable, Sendable {
    /// The host failed with this error number.
    case failed(errno: Int32)
    /// The storage does not have this operation.
    case unsupported
}

/// Where a disk's bytes are. Subclass it for another kind of storage.
///
/// The calls are made on a disk's worker threads, several at once, in any order, and may wait. The device has checked that the range
/// lies in the storage and is whole sectors, and that nothing writes to a read-only one. A reset of the device waits for calls in
/// progress, on a vCPU's thread: a call that itself waits for the guest needs a limit.
open class BlockStorage: @unchecked Sendable {
    /// Size in bytes, a multiple of `sectorSize`.
    public let byteCount: UInt64
    /// Smallest unit of a request in bytes, a power of two, 512 to 4096.
    public let sectorSize: Int
    /// Whether the guest may only read.
    public let isReadOnly: Bool

    /// Describes the storage.
    public init(byteCount: UInt64, sectorSize: Int, isReadOnly: Bool) {
        self.byteCount = byteCount
        self.sectorSize = sectorSize
        self.isReadOnly = isReadOnly
    }

    /// Fills all of `vectors` with the bytes at `offset`. May shorten `vectors` as it goes.
    open func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        throw .unsupported
    }

    /// Writes all of `vectors` at `offset`. May shorten `vectors` as it goes.
    open func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        throw .unsupported
    }

    /// Returns when everything written before is on stable storage.
    open func flush() throws(StorageError) {
        throw .unsupported
    }

    /// The range's contents are of no use any more. A hint: to do nothing is allowed.
    open func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
    }

    /// Makes the range read as zeroes.
    ///
    /// - Parameter mayUnmap: whether the space may be given back to the host; if not, later writes to it must not fail for lack of space.
    open func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        throw .unsupported
    }
}
