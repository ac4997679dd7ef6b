// SPDX-License-Identifier: Apache-2.0

public import VMMBase

internal import Glibc
internal import Synchronization

/// A disk (virtio 1.2, section 5.2) on any `BlockStorage`.
///
/// Two worker threads a disk serve requests off the vCPUs' threads, in any order; they run from activation to stop.
public final class VirtioBlock: VirtioDevice, @unchecked Sendable {
    /// The disk's life, and what it is on.
    private struct State {
        var storage: BlockStorage
        /// While the device is active.
        var service: BlockWorkers?
        var activation: Activation?
    }

    /// What the guest and the device agreed on.
    private struct Activation {
        let queue: Virtqueue
        let features: UInt64
        let interrupt: VirtioInterrupt
    }

    static let workerCount = 2
    /// Of a discard request: segments, and sectors of 512 bytes in each (2 GiB).
    static let discardSegments: UInt32 = 32
    static let discardSectors: UInt32 = 1 << 22
    /// Of a write-zeroes request: sectors of 512 bytes (128 MiB), in one segment. Some file systems have to write them.
    static let zeroSectors: UInt32 = 1 << 18

    private let serial: [UInt8]
    private let tally = BlockCounters()
    private let state: Mutex<State>
    /// In sectors of 512 bytes: the one field of the configuration space that may change.
    private let capacity: Atomic<UInt64>

    /// Makes a disk.
    ///
    /// - Parameter id: names the disk in statistics; its first 20 bytes are the serial number that the guest reads.
    public init(id: String, storage: BlockStorage) {
        state = Mutex(State(storage: storage))
        capacity = Atomic(storage.byteCount / 512)
        serial = Array(id.utf8.prefix(20))
        super.init(
            name: VirtioBlock.name(id: id), deviceType: 2, features: VirtioBlock.features(of: storage), queueSizes: [256],
            configuration: VirtioBlock.configuration(of: storage))
    }

    /// The device's name.
    static func name(id: String) -> String {
        "virtio-blk.\(id)"
    }

    /// Where the bytes are.
    public var storage: BlockStorage {
        state.withLock { $0.storage }
    }

    /// Starts the workers.
    public override func activate(_ queues: [Virtqueue?], features: UInt64, interrupt: VirtioInterrupt) throws(KVMError) {
        guard let queue = queues.first ?? nil else { return }
        let failure = state.withLock { state in
            state.activation = Activation(queue: queue, features: features, interrupt: interrupt)
            return start(&state)
        }
        if let failure { throw failure }
    }

    /// Waits for the requests in flight and ends the workers.
    public override func stop() {
        state.withLock { state in
            state.activation = nil
            state.service?.stop()
            state.service = nil
        }
    }

    /// Puts other storage in the place of what is there, and tells the guest that the size may have changed. Requests in flight are finished
    /// on the old storage first. Any thread but a worker's.
    ///
    /// - Parameter storage: as read-only as the old one, with sectors of the same size: the guest has been told of both.
    /// - Throws: `KVMError` when the two differ in that, or the workers cannot be started again, which the guest is told too.
    public func replaceStorage(_ storage: BlockStorage) throws(KVMError) {
        let failure = state.withLock { state -> KVMError? in
            guard storage.isReadOnly == state.storage.isReadOnly, storage.sectorSize == state.storage.sectorSize else {
                return KVMError(call: "replace \(name)", errno: EINVAL, advice: "sectors of another size, or not as read-only")
            }
            state.service?.stop()
            state.service = nil
            state.storage = storage
            capacity.store(storage.byteCount / 512, ordering: .releasing)
            guard let activation = state.activation else { return nil }
            let failure = start(&state)
            if failure == nil { activation.interrupt.configurationChanged() } else { activation.interrupt.requireReset() }
            return failure
        }
        if let failure { throw failure }
    }

    private func start(_ state: inout State) -> KVMError? {
        guard let activation = state.activation else { return nil }
        // Without FLUSH the driver has no way to ask, and may take every write for stable (virtio 1.2, section 5.2.6.2).
        let writeThrough = activation.features & BlockFeature.flush == 0
        let server = BlockRequestHandler(
            queue: activation.queue, storage: state.storage, serial: serial, writeThrough: writeThrough, tally: tally)
        let started = BlockWorkers(queue: activation.queue, server: server, name: name)
        state.service = started
        do throws(KVMError) {
            try started.start(workers: VirtioBlock.workerCount)
            return nil
        } catch {
            return error
        }
    }

    /// The configuration space, with the capacity that is now.
    public override func readConfiguration(offset: UInt64, size: Int) -> UInt64 {
        guard offset < 8, size > 0, size <= 8 else { return super.readConfiguration(offset: offset, size: size) }
        let field = capacity.load(ordering: .acquiring) >> (8 &* offset)
        let (inside, bits) = (8 &* (8 &- offset), 8 &* UInt64(size))
        // An access that reaches beyond the field.
        guard bits > inside else { return bits == 64 ? field : field & (1 << bits &- 1) }
        return field | super.readConfiguration(offset: 8, size: size &- Int(8 &- offset)) << inside
    }

    /// Requests by kind, bytes, and what went wrong.
    public override func counters() -> [(name: String, value: UInt64)] {
        tally.values()
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

/// What a disk counts. Written by its workers, read by anybody.
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
