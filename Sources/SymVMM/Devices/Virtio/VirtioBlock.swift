// SPDX-License-Identifier: Apache-2.0

public import VMMBase
public import VMMModel

internal import Glibc
internal import Synchronization

/// A disk (virtio 1.2, section 5.2) on any `BlockStorage`.
///
/// Two worker threads for each disk execute requests in any order. They are made with the disk and end with it; a reset only parks them.
public final class VirtioBlock: VirtioDevice, @unchecked Sendable {
    /// The disk's storage, and what its workers serve.
    private struct Life {
        var storage: BlockStorage
        /// Nil if the device is not active.
        var activation: Activation?
        /// The storage was replaced while the device was not active, so nobody has told the driver, which may have read the size before.
        var hasUnannouncedChange = false
    }

    /// The queue, the features and the interrupt of an active device.
    private struct Activation {
        let queue: Virtqueue
        let features: UInt64
        let interrupt: VirtioInterrupt
    }

    static let workerCount = 2
    /// Limits of a discard request: segments, and sectors of 512 bytes in each (2 GiB).
    static let discardSegments: UInt32 = 32
    static let discardSectors: UInt32 = 1 << 22
    /// Limit of a write-zeroes request: sectors of 512 bytes (128 MiB) in one segment. On some file systems the VMM writes all of them.
    static let zeroSectors: UInt32 = 1 << 18

    private let serial: [UInt8]
    private let tally = BlockCounters()
    private let workers: BlockWorkers
    private let limiter: RateLimiter
    private let life: Mutex<Life>
    /// The storage for readers: they do not wait for `life`, which a stop holds while requests are in flight.
    private let current: Mutex<BlockStorage>
    /// Capacity in sectors of 512 bytes: the only field of the configuration space that may change.
    private let capacity: Atomic<UInt64>

    /// Creates a disk and its worker threads.
    ///
    /// - Parameters:
    ///   - id: names the disk in statistics; its first 20 bytes are the serial number that the guest reads.
    ///   - storage: holds the disk's contents.
    ///   - rateLimiter: limits the disk's bandwidth and requests; nil: no limit.
    /// - Throws: `VMMError` if the host makes no more threads.
    public init(id: String, storage: BlockStorage, rateLimiter: RateLimiterConfiguration? = nil) throws(VMMError) {
        limiter = RateLimiter(rateLimiter)
        workers = try BlockWorkers(count: VirtioBlock.workerCount, name: id)
        life = Mutex(Life(storage: storage))
        current = Mutex(storage)
        capacity = Atomic(storage.byteCount / 512)
        serial = Array(id.utf8.prefix(20))
        super.init(
            name: VirtioBlock.name(id: id), deviceType: 2, features: VirtioBlock.features(of: storage), queueSizes: [256],
            configuration: VirtioBlock.configuration(of: storage))
    }

    deinit {
        workers.end()
    }

    /// The device's name.
    static func name(id: String) -> String {
        "virtio-blk.\(id)"
    }

    /// The disk's storage.
    public var storage: BlockStorage {
        current.withLock { $0 }
    }

    /// Gives the workers the queue.
    public override func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(VMMError) {
        guard let queue = queues.first ?? nil else { return }
        life.withLock { life in
            life.activation = Activation(queue: queue, features: features, interrupt: interrupt)
            start(life)
            announceChange(&life)
        }
    }

    /// Waits for the requests in flight, at most one of each worker, and parks the workers.
    public override func stop() {
        life.withLock { life in
            life.activation = nil
            workers.stop()
        }
    }

    /// Replaces the storage and notifies the guest that the size may have changed, at once or when the device becomes active. The workers first
    /// complete requests in flight on the old storage. Any thread except a worker's.
    ///
    /// - Parameter storage: read-only or not like the old one, with the same sector size, because the guest already uses both.
    /// - Throws: `VMMError` if the two differ in these.
    public func replaceStorage(_ storage: BlockStorage) throws(VMMError) {
        let failure = life.withLock { life -> VMMError? in
            guard storage.isReadOnly == life.storage.isReadOnly, storage.sectorSize == life.storage.sectorSize else {
                return VMMError(call: "replace \(name)", errno: EINVAL, advice: "another sector size, or only one is read-only")
            }
            workers.stop()
            life.storage = storage
            current.withLock { $0 = storage }
            capacity.store(storage.byteCount / 512, ordering: .releasing)
            start(life)
            life.hasUnannouncedChange = true
            announceChange(&life)
            return nil
        }
        if let failure { throw failure }
    }

    /// Notifies the guest of a changed size, if there is one. A device that is not active must not interrupt (virtio 1.2, section 3.1.1).
    private func announceChange(_ life: inout Life) {
        guard life.hasUnannouncedChange, let activation = life.activation else { return }
        life.hasUnannouncedChange = false
        activation.interrupt.configurationChanged()
    }

    /// Changes the limits. A bucket that the change lacks stays as it is; one without a limit removes the limit. Any thread.
    public func changeRateLimiter(_ change: RateLimiterConfiguration) {
        limiter.update(change)
        workers.limitsChanged()
    }

    private func start(_ life: Life) {
        guard let activation = life.activation else { return }
        let server = BlockRequestHandler(
            queue: activation.queue, storage: life.storage, serial: serial, features: activation.features, tally: tally,
            limiter: limiter)
        workers.start(BlockWorkers.Job(queue: activation.queue, server: server, limiter: limiter))
    }

    /// Reads the configuration space with the current capacity.
    public override func readConfiguration(offset: UInt64, size: Int) -> UInt64 {
        guard offset < 8, size > 0, size <= 8 else { return super.readConfiguration(offset: offset, size: size) }
        let field = capacity.load(ordering: .acquiring) >> (8 &* offset)
        let (inside, bits) = (8 &* (8 &- offset), 8 &* UInt64(size))
        // An access that reaches beyond the field.
        guard bits > inside else { return bits == 64 ? field : field & (1 << bits &- 1) }
        return field | super.readConfiguration(offset: 8, size: size &- Int(8 &- offset)) << inside
    }

    /// Requests by kind, bytes, errors, and requests that waited for tokens.
    public override func counters() -> [(name: String, value: UInt64)] {
        tally.values() + [("throttled_requests", limiter.throttledCount)]
    }

    private static func features(of storage: BlockStorage) -> UInt64 {
        let common = BlockFeature.segmentMaximum | BlockFeature.blockSize | BlockFeature.flush | BlockFeature.topology
        return common | (storage.isReadOnly ? BlockFeature.readOnly : BlockFeature.discard | BlockFeature.writeZeroes)
    }

    /// struct virtio_blk_config (virtio 1.2, section 5.2.4).
    private static func configuration(of storage: BlockStorage) -> [UInt8] {
        var bytes: [UInt8] = []
        func append(_ value: some FixedWidthInteger) {
            for shift in stride(from: 0, to: value.bitWidth, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
        }
        append(storage.byteCount / 512)  // capacity
        append(UInt32(0))  // size_max: not offered
        append(UInt32(DescriptorChain.maximumCount - 2))  // seg_max: less header and status
        append(UInt32(0))  // geometry: not offered
        append(UInt32(truncatingIfNeeded: storage.sectorSize))  // blk_size
        // A host page is the unit in which the host reads and writes.
        append(UInt8(truncatingIfNeeded: max(0, 12 - storage.sectorSize.trailingZeroBitCount)))  // physical_block_exp
        append(UInt8(0))  // alignment_offset
        append(UInt16(1))  // min_io_size, in logical blocks
        append(UInt32(0))  // opt_io_size: none
        append(UInt32(1) << 16)  // writeback (not offered), unused, num_queues
        append(discardSectors)
        append(discardSegments)
        append(UInt32(max(1, storage.sectorSize / 512)))  // discard_sector_alignment
        append(zeroSectors)
        append(UInt32(1))  // max_write_zeroes_seg
        append(UInt32(1))  // write_zeroes_may_unmap, unused
        return bytes
    }
}

/// Feature bits of a block device (virtio 1.2, section 5.2.3).
enum BlockFeature {
    static let segmentMaximum: UInt64 = 1 << 2  // VIRTIO_BLK_F_SEG_MAX
    static let readOnly: UInt64 = 1 << 5  // VIRTIO_BLK_F_RO
    static let blockSize: UInt64 = 1 << 6  // VIRTIO_BLK_F_BLK_SIZE
    static let flush: UInt64 = 1 << 9  // VIRTIO_BLK_F_FLUSH
    static let topology: UInt64 = 1 << 10  // VIRTIO_BLK_F_TOPOLOGY
    static let discard: UInt64 = 1 << 13  // VIRTIO_BLK_F_DISCARD
    static let writeZeroes: UInt64 = 1 << 14  // VIRTIO_BLK_F_WRITE_ZEROES
}

/// A disk's counters. Its workers write them, any thread reads them.
final class BlockCounters: Sendable {
    let reads = Atomic<UInt64>(0)
    let writes = Atomic<UInt64>(0)
    let flushes = Atomic<UInt64>(0)
    let discards = Atomic<UInt64>(0)
    let zeroings = Atomic<UInt64>(0)
    let others = Atomic<UInt64>(0)
    let readBytes = Atomic<UInt64>(0)
    let writtenBytes = Atomic<UInt64>(0)
    let errors = Atomic<UInt64>(0)
    let unsupported = Atomic<UInt64>(0)
    let refused = Atomic<UInt64>(0)

    func values() -> [(name: String, value: UInt64)] {
        [
            ("reads", reads.load(ordering: .relaxed)),
            ("writes", writes.load(ordering: .relaxed)),
            ("flushes", flushes.load(ordering: .relaxed)),
            ("discards", discards.load(ordering: .relaxed)),
            ("write_zeroes", zeroings.load(ordering: .relaxed)),
            ("other_requests", others.load(ordering: .relaxed)),
            ("read_bytes", readBytes.load(ordering: .relaxed)),
            ("written_bytes", writtenBytes.load(ordering: .relaxed)),
            ("host_errors", errors.load(ordering: .relaxed)),
            ("unsupported_requests", unsupported.load(ordering: .relaxed)),
            ("refused_requests", refused.load(ordering: .relaxed)),
        ]
    }
}
