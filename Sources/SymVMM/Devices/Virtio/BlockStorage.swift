// SPDX-License-Identifier: Apache-2.0

/// Why the storage could not execute a request.
public enum StorageError: Error, Equatable, Sendable {
    /// The host's I/O failed with this error number.
    case failed(errno: Int32)
    /// The storage does not support this operation.
    case unsupported
}

/// The storage of a disk. A subclass implements one kind of storage.
///
/// A disk's worker threads call the methods, several at once, in any order; the methods may block. The device has checked that the range
/// lies in the storage and consists of whole sectors, and it does not write to read-only storage. When the guest resets the device, a vCPU's
/// thread waits for the calls in progress, so a method that waits for the guest needs a time limit.
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

    /// Returns when all earlier writes are on stable storage.
    open func flush() throws(StorageError) {
        throw .unsupported
    }

    /// Discards the range's contents. A hint: an implementation may do nothing.
    open func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
    }

    /// Makes the range read as zeroes.
    ///
    /// - Parameters:
    ///   - offset: the first byte of the range.
    ///   - byteCount: the length of the range.
    ///   - mayUnmap: whether the storage may free the range's space. If false, later writes to the range must not fail for lack of space.
    open func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        throw .unsupported
    }
}
