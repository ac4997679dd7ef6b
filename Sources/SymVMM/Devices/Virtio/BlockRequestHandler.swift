// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Checks and executes disk requests, and writes their status (virtio 1.2, section 5.2.6). Any number of threads at once.
final class BlockRequestHandler: Sendable {
    private let queue: Virtqueue
    private let storage: BlockStorage
    private let serial: [UInt8]
    private let features: UInt64
    private let tally: BlockCounters
    private let limiter: RateLimiter

    /// Creates a handler.
    ///
    /// - Parameters:
    ///   - queue: the requests.
    ///   - storage: holds the disk's contents.
    ///   - serial: the disk's identifier, at most 20 bytes.
    ///   - features: the negotiated features.
    ///   - tally: counts the requests.
    ///   - limiter: is charged for bytes that the host writes and the request does not contain.
    init(queue: Virtqueue, storage: BlockStorage, serial: [UInt8], features: UInt64, tally: BlockCounters, limiter: RateLimiter) {
        self.limiter = limiter
        self.queue = queue
        self.storage = storage
        self.serial = serial
        self.features = features
        self.tally = tally
    }

    /// Why a request is refused.
    private enum Refusal: Error {
        /// VIRTIO_BLK_S_IOERR: outside the disk, not whole sectors, a write to a read-only disk, or malformed data.
        case invalid
        /// VIRTIO_BLK_S_UNSUPP
        case unsupported
        /// VIRTIO_BLK_S_IOERR: the host's I/O failed.
        case host
    }

    private enum Status {
        static let ok: UInt8 = 0
        static let ioError: UInt8 = 1
        static let unsupported: UInt8 = 2
    }

    /// Bytes of data of a request for the ID (virtio 1.2, section 5.2.6.1).
    private static let serialByteCount = 20

    private enum Kind {
        static let read: UInt32 = 0  // VIRTIO_BLK_T_IN
        static let write: UInt32 = 1  // VIRTIO_BLK_T_OUT
        static let flush: UInt32 = 4
        static let getID: UInt32 = 8
        static let discard: UInt32 = 11
        static let writeZeroes: UInt32 = 13
    }

    /// A segment of a discard or write-zeroes request.
    private struct Segment: BitwiseCopyable {
        var sector: UInt64 = 0
        var count: UInt32 = 0
        var flags: UInt32 = 0
    }

    private struct Header: BitwiseCopyable {
        var kind: UInt32 = 0
        var reserved: UInt32 = 0
        var sector: UInt64 = 0
    }

    /// Bytes of data in a request: all but the header and the status, whatever its type.
    static func byteCount(of chain: DescriptorChain) -> UInt64 {
        UInt64(max(0, chain.readable.byteCount - MemoryLayout<Header>.size) + max(0, chain.writable.byteCount - 1))
    }

    /// Executes a request.
    ///
    /// - Returns: the used length: bytes written from the start of the writable part, without a gap. The status is behind the data, so it counts
    ///   only if all of the data was written. Nil if the request has no room for a status, which breaks the queue.
    func serve(_ chain: DescriptorChain) -> Int? {
        var header = Header()
        // SAFETY: a header consists of integers, so any bytes are a valid value.
        let copied = unsafe withUnsafeMutableBytes(of: &header) { unsafe chain.readable.copy(to: $0) }
        guard let status = chain.writable.takeLastByte() else {
            queue.markBroken(.malformedRequest)
            return nil
        }
        let room = chain.writable.byteCount
        do throws(Refusal) {
            guard copied == MemoryLayout<Header>.size else { throw .invalid }
            chain.readable.dropFirst(copied)
            let written = try dispatch(header, chain)
            status.store(Status.ok)
            return written == room ? written + 1 : written
        } catch {
            switch error {
            case .unsupported:
                tally.unsupported.wrappingAdd(1, ordering: .relaxed)
                status.store(Status.unsupported)
            case .invalid:
                tally.refused.wrappingAdd(1, ordering: .relaxed)
                status.store(Status.ioError)
            case .host:
                tally.errors.wrappingAdd(1, ordering: .relaxed)
                status.store(Status.ioError)
            }
            return room == 0 ? 1 : 0
        }
    }

    /// Executes the request by its type. Returns the bytes written to the guest, without the status.
    private func dispatch(_ header: Header, _ chain: DescriptorChain) throws(Refusal) -> Int {
        switch UInt32(littleEndian: header.kind) {
        case Kind.read:
            tally.reads.wrappingAdd(1, ordering: .relaxed)
            try requireNothing(in: chain.readable)
            let bytes = chain.writable.byteCount
            let offset = try range(header.sector, bytes)
            try onHost { () throws(StorageError) in try storage.read(into: &chain.writable, at: offset) }
            tally.readBytes.wrappingAdd(UInt64(bytes), ordering: .relaxed)
            return bytes
        case Kind.write:
            tally.writes.wrappingAdd(1, ordering: .relaxed)
            try requireWritable()
            try requireNothing(in: chain.writable)
            let bytes = chain.readable.byteCount
            let offset = try range(header.sector, bytes)
            try onHost { () throws(StorageError) in
                try storage.write(from: &chain.readable, at: offset)
                if writeThrough { try storage.flush() }
            }
            tally.writtenBytes.wrappingAdd(UInt64(bytes), ordering: .relaxed)
            return 0
        case Kind.flush:
            tally.flushes.wrappingAdd(1, ordering: .relaxed)
            // A read-only disk has nothing to flush.
            if !storage.isReadOnly { try onHost { () throws(StorageError) in try storage.flush() } }
            return 0
        case Kind.getID:
            tally.others.wrappingAdd(1, ordering: .relaxed)
            try requireNothing(in: chain.readable)
            guard chain.writable.byteCount == BlockRequestHandler.serialByteCount else { throw .invalid }
            return writeSerial(chain)
        case Kind.discard:
            try require(BlockFeature.discard)
            tally.discards.wrappingAdd(1, ordering: .relaxed)
            try forEachSegment(chain, limit: VirtioBlock.discardSegments) { segment throws(Refusal) in try discard(segment) }
            return 0
        case Kind.writeZeroes:
            try require(BlockFeature.writeZeroes)
            tally.zeroings.wrappingAdd(1, ordering: .relaxed)
            try forEachSegment(chain, limit: 1) { segment throws(Refusal) in try writeZeroes(segment) }
            return 0
        default:
            tally.others.wrappingAdd(1, ordering: .relaxed)
            throw .unsupported
        }
    }

    private func discard(_ segment: Segment) throws(Refusal) {
        guard segment.flags == 0 else { throw .unsupported }
        guard segment.count <= VirtioBlock.discardSectors else { throw .invalid }
        let bytes = Int(segment.count) * 512
        let offset = try range(segment.sector, bytes)
        guard bytes > 0 else { return }
        try onHost { () throws(StorageError) in try storage.discard(at: offset, byteCount: UInt64(bytes)) }
    }

    private func writeZeroes(_ segment: Segment) throws(Refusal) {
        // The only flag is VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP.
        guard segment.flags & ~1 == 0 else { throw .unsupported }
        guard segment.count <= VirtioBlock.zeroSectors else { throw .invalid }
        let bytes = Int(segment.count) * 512
        let offset = try range(segment.sector, bytes)
        guard bytes > 0 else { return }
        // The number is in the guest's memory, which may have changed since the limiter saw the request.
        limiter.charge(bytes: UInt64(bytes))
        try onHost { () throws(StorageError) in
            try storage.writeZeroes(at: offset, byteCount: UInt64(bytes), mayUnmap: segment.flags & 1 != 0)
            if writeThrough { try storage.flush() }
        }
    }

    private func forEachSegment(_ chain: DescriptorChain, limit: UInt32, _ body: (Segment) throws(Refusal) -> Void) throws(Refusal) {
        try requireWritable()
        try requireNothing(in: chain.writable)
        let bytes = chain.readable.byteCount
        guard bytes > 0, bytes % MemoryLayout<Segment>.size == 0, bytes / MemoryLayout<Segment>.size <= Int(limit) else { throw .invalid }
        while chain.readable.byteCount > 0 {
            var raw = Segment()
            // SAFETY: a segment consists of integers, so any bytes are a valid value.
            let copied = unsafe withUnsafeMutableBytes(of: &raw) { unsafe chain.readable.copy(to: $0) }
            chain.readable.dropFirst(copied)
            let segment = Segment(
                sector: UInt64(littleEndian: raw.sector), count: UInt32(littleEndian: raw.count), flags: UInt32(littleEndian: raw.flags))
            try body(segment)
        }
    }

    /// VIRTIO_BLK_T_GET_ID: 20 bytes, padded with zeroes.
    private func writeSerial(_ chain: DescriptorChain) -> Int {
        // SAFETY: the tuple is 20 plain bytes.
        var text: (UInt64, UInt64, UInt32) = (0, 0, 0)
        return unsafe withUnsafeMutableBytes(of: &text) { room in
            for index in 0..<min(serial.count, BlockRequestHandler.serialByteCount) { unsafe room[index] = serial[index] }
            return unsafe chain.writable.copy(from: UnsafeRawBufferPointer(rebasing: room[0..<BlockRequestHandler.serialByteCount]))
        }
    }

    /// Checks that the request lies in the storage and consists of whole sectors. Returns its offset in bytes.
    private func range(_ sector: UInt64, _ bytes: Int) throws(Refusal) -> UInt64 {
        let (offset, overflow) = UInt64(littleEndian: sector).multipliedReportingOverflow(by: 512)
        guard !overflow, offset <= storage.byteCount, UInt64(bytes) <= storage.byteCount - offset else { throw .invalid }
        let mask = UInt64(storage.sectorSize) - 1
        guard offset & mask == 0, UInt64(bytes) & mask == 0 else { throw .invalid }
        return offset
    }

    /// Without FLUSH the driver cannot flush, and may treat every completed write as stable (virtio 1.2, section 5.2.6.2).
    private var writeThrough: Bool {
        features & BlockFeature.flush == 0
    }

    /// Refuses a request of a feature that was not negotiated.
    private func require(_ feature: UInt64) throws(Refusal) {
        guard features & feature != 0 else { throw .unsupported }
    }

    /// Refuses buffers of the direction that the request does not have.
    private func requireNothing(in vectors: GuestVectors) throws(Refusal) {
        guard vectors.byteCount == 0 else { throw .invalid }
    }

    private func requireWritable() throws(Refusal) {
        guard !storage.isReadOnly else { throw .invalid }
    }

    private func onHost(_ body: () throws(StorageError) -> Void) throws(Refusal) {
        do throws(StorageError) {
            try body()
        } catch .unsupported {
            throw .unsupported
        } catch {
            throw .host
        }
    }
}
