// SPDX-License-Identifier: Apache-2.0

internal import Glibc
public import SymVMM

/// The swap store as a disk: what an unmodified guest swaps on.
public final class SwapDisk: BlockStorage, @unchecked Sendable {
    /// The serial number by which a guest finds it.
    public static let serial = "symvmm-swap"
    private let store: SwapStore

    /// A disk on a store. Its sectors are pages: nobody writes parts of a swapped page.
    public init(_ store: SwapStore) {
        self.store = store
        super.init(byteCount: store.byteCount, sectorSize: 4096, isReadOnly: false)
    }

    /// preadv(2) until all is read.
    public override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        let number = store.descriptor.rawValue
        try unsafe SwapDisk.transfer(&vectors, offset) { base, count, position in
            // SAFETY: the vectors describe guest memory, which outlives the request; preadv writes no more than they hold.
            unsafe preadv(number, base, count, position)
        }
    }

    /// pwritev(2) until all is written. A host without memory is an error of the disk.
    public override func write(from vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        let number = store.descriptor.rawValue
        try unsafe SwapDisk.transfer(&vectors, offset) { base, count, position in
            // SAFETY: as in read; pwritev only reads them.
            unsafe pwritev(number, base, count, position)
        }
    }

    /// Nothing to do: swap does not outlive the VM.
    public override func flush() throws(StorageError) {
    }

    /// Gives the slots' memory back to the host.
    public override func discard(at offset: UInt64, byteCount: UInt64) throws(StorageError) {
        try punch(offset, byteCount)
    }

    /// A hole reads as zeroes.
    public override func writeZeroes(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool) throws(StorageError) {
        try punch(offset, byteCount)
    }

    private func punch(_ offset: UInt64, _ byteCount: UInt64) throws(StorageError) {
        guard byteCount > 0 else { return }
        do throws(KVMError) {
            try store.descriptor.punchHole(offset: offset, byteCount: byteCount)
        } catch {
            throw .failed(errno: error.errno)
        }
    }

    private static func transfer(
        _ vectors: inout GuestVectors, _ offset: UInt64, _ call: (UnsafePointer<iovec>, Int32, Int) -> Int
    ) throws(StorageError) {
        var position = Int(clamping: offset)
        while vectors.byteCount > 0 {
            let bytes = unsafe vectors.withVectors { base, count in unsafe call(base, count, position) }
            if bytes < 0, errno == EINTR { continue }
            guard bytes > 0 else { throw .failed(errno: bytes < 0 ? errno : EIO) }
            vectors.dropFirst(bytes)
            position += bytes
        }
    }
}
