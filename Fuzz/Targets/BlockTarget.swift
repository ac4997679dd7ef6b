// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import VMMBase

@testable import SwapBypass
@testable import SymVMM

extension FuzzTarget {
    static let block = FuzzTarget(
        name: "block", summary: "disk requests on each kind of storage, against a model of the disk and of guest memory",
        seeds: { BlockFuzz.seeds }, prepare: { try BlockFuzz().run })
}

/// A chain of a request, as the driver lays it out.
private struct Request {
    var kind: UInt32 = 0
    var sector: UInt64 = 0
    /// Readable bytes after the header.
    var readable: [UInt8] = []
    var writableCount = 0
    /// Where the writable bytes are: address and length.
    var writable: [(UInt64, Int)] = []
}

/// The disk as a driver knows it.
private struct DiskModel {
    var bytes: [UInt8]
    /// Sectors of 512 bytes whose contents a discard has made unknown.
    var unknown: Set<Int> = []
    let sectorSize: Int
    let isReadOnly: Bool

    /// The status that the driver reads: VIRTIO_BLK_S_OK, IOERR, UNSUPP.
    enum Answer: UInt8 {
        case ok = 0
        case error = 1
        case unsupported = 2
    }

    func range(_ sector: UInt64, _ count: Int) -> Range<Int>? {
        let (start, overflow) = sector.multipliedReportingOverflow(by: 512)
        guard !overflow, start <= UInt64(bytes.count), count <= bytes.count - Int(start) else { return nil }
        guard Int(start) % sectorSize == 0, count % sectorSize == 0 else { return nil }
        return Int(start)..<(Int(start) + count)
    }

    mutating func write(_ request: Request) -> Answer {
        guard !isReadOnly, let range = range(request.sector, request.readable.count) else { return .error }
        bytes.replaceSubrange(range, with: request.readable)
        for sector in range.lowerBound / 512..<range.upperBound / 512 { unknown.remove(sector) }
        return .ok
    }

    /// Segments take effect in order until one is refused.
    mutating func clear(_ request: Request, limit: Int, isDiscard: Bool) -> Answer {
        let count = request.readable.count
        guard !isReadOnly, count > 0, count % 16 == 0, count / 16 <= limit else { return .error }
        for place in stride(from: 0, to: count, by: 16) {
            let words = request.readable[place..<place + 16]
            func number(_ offset: Int, _ size: Int) -> UInt64 {
                words.dropFirst(offset).prefix(size).reversed().reduce(0) { $0 << 8 | UInt64($1) }
            }
            let (sector, sectors, flags) = (number(0, 8), number(8, 4), number(12, 4))
            guard flags & (isDiscard ? ~0 : ~1) == 0 else { return .unsupported }
            guard sectors <= (isDiscard ? 1 << 22 : 1 << 18), let range = range(sector, Int(sectors) * 512) else { return .error }
            for sector in range.lowerBound / 512..<range.upperBound / 512 {
                if isDiscard { unknown.insert(sector) } else { unknown.remove(sector) }
            }
            if !isDiscard { bytes.replaceSubrange(range, with: repeatElement(0, count: range.count)) }
        }
        return .ok
    }
}

final class BlockFuzz {
    static let seeds: [[UInt8]] = (0..<4).map { kind in [kind, 1, 1, 2, 8, 0, 3, 4, 0, 1, 2, 8, 0, 3, 2, 1, 1, 13, 1, 5, 8, 0, 0, 1, 8, 4] }
    private static let memoryBytes = 1 << 20
    /// The part of guest memory that the rings and buffers use; compared with a copy after each request.
    private static let usedBytes = 192 << 10
    private static let serial = "fuzz-disk"

    private let memory: GuestMemory
    private let storages: [BlockStorage]
    private let folder: FuzzFolder
    private let line: InterruptLine
    private let notifier: QueueNotifier
    private let chain = DescriptorChain()

    init() throws {
        memory = try GuestMemory(byteCount: UInt64(BlockFuzz.memoryBytes))
        line = try InterruptLine(unconnected: 5)
        notifier = try QueueNotifier()
        folder = try FuzzFolder()
        try folder.write("disk", [UInt8](repeating: 0, count: 256 << 10))
        try folder.write("readonly", (0..<64 << 10).map { UInt8(truncatingIfNeeded: $0 / 512) })
        storages = [
            try FileStorage(path: "\(folder.path)/disk", isReadOnly: false, sectorSize: 512),
            try SwapStore.make(SwapConfiguration(byteCount: 1 << 20)),
            try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: "\(folder.path)/file")),
            try SwapStore.make(SwapConfiguration(byteCount: 4 << 20, path: "\(folder.path)/budget", budget: 2 << 20)),
            try FileStorage(path: "\(folder.path)/readonly", isReadOnly: true, sectorSize: 1024),
        ]
    }

    func run(_ input: inout FuzzInput) throws {
        let storage = storages[input.number(below: storages.count)]
        var disk: DiskModel
        if storage.isReadOnly {
            disk = DiskModel(bytes: folder.read("readonly") ?? [], sectorSize: 1024, isReadOnly: true)
        } else {
            try storage.writeZeroes(at: 0, byteCount: storage.byteCount, mayUnmap: true)
            let zeroes = [UInt8](repeating: 0, count: Int(storage.byteCount))
            disk = DiskModel(bytes: zeroes, sectorSize: storage.sectorSize, isReadOnly: false)
        }
        try memory.zero(0, byteCount: BlockFuzz.usedBytes)
        let layout = VirtqueueLayout(size: 64, descriptorTable: 0x1000, availableRing: 0x2000, usedRing: 0x3000)
        let interrupt = VirtioLineInterrupt(line: line)
        let tally = BlockCounters()
        let queue = try Virtqueue(
            index: 0, layout: layout, maximumSize: 256, features: 0, memory: memory, notifier: notifier, interrupt: interrupt)
        let features = BlockFeature.discard | BlockFeature.writeZeroes
        let handler = BlockRequestHandler(
            queue: queue, storage: storage, serial: Array(BlockFuzz.serial.utf8),
            features: features | (input.flag() ? BlockFeature.flush : 0), tally: tally, limiter: RateLimiter(nil))
        var offered: UInt16 = 0
        while !input.isEmpty, queue.fault == nil {
            let refused = tally.refused.load(ordering: .relaxed) + tally.unsupported.load(ordering: .relaxed)
            let request = try makeRequest(&input, storage, offered)
            offered &+= 1
            let before = try memory.read(0, byteCount: BlockFuzz.usedBytes)
            expect(queue.pop(into: chain), "a valid chain is refused: \(String(describing: queue.fault))")
            let written = handler.serve(chain)
            guard request.writableCount > 0 else {
                expect(written == nil && queue.fault == .malformedRequest, "a request without a status is served")
                return
            }
            guard let written else { broken("a request with a status is not answered") }
            let (answer, data) = expected(request, &disk, storage)
            let status = try byte(at: request.writableCount - 1, of: request)
            expect(status == answer.rawValue, "status \(status) of \(request), not \(answer)")
            let hasRefused = tally.refused.load(ordering: .relaxed) + tally.unsupported.load(ordering: .relaxed) > refused
            expect(hasRefused == (answer != .ok), "the counters do not tell that a request was refused")
            // A failed read may have written its buffers; nothing else changes.
            try checkMemory(before, request, data: data, status: status, isKnown: answer == .ok, &disk)
            // The status is last: it counts only if all before it is written, too (virtio 1.2, section 2.7.8.2).
            let (room, filled) = (request.writableCount - 1, answer == .ok ? data.count : 0)
            expect(written == (filled == room ? filled + 1 : filled), "\(written) bytes written, \(filled) of \(room) filled")
            queue.push(chain, written: written)
        }
        try checkWhole(storage, disk)
    }

    private func makeRequest(_ input: inout FuzzInput, _ storage: BlockStorage, _ offered: UInt16) throws -> Request {
        var request = Request()
        request.kind = input.pick([0, 1, 1, 0, 4, 8, 11, 13, 2, 5, .max])
        let sectors = storage.byteCount / 512
        request.sector =
            switch input.byte() % 8 {
            case 0: input.edge()
            case 1: sectors &- UInt64(input.byte() % 16)
            case 2: UInt64(input.byte())
            default: UInt64(input.word()) % sectors & ~UInt64(storage.sectorSize / 512 - 1)
            }
        var place: UInt64 = 0x6000
        func next(_ count: Int) -> UInt64 {
            defer { place += UInt64(count) }
            return place
        }
        // The header, in one or two descriptors.
        let header = next(16)
        try memory.store(request.kind, at: header)
        try memory.store(request.sector, at: header + 8)
        var buffers: [(UInt64, Int, Bool)] = input.byte() < 240 ? [(header, 16, false)] : [(header, 7, false), (header + 7, 9, false)]
        let isSegments = request.kind == 11 || request.kind == 13
        for _ in 0..<input.number(below: 4) {
            let count = isSegments ? 16 * input.number(below: 5) : length(&input, storage)
            let start = next(count)
            let bytes = isSegments ? segments(&input, count / 16, storage) : [UInt8](repeating: input.byte(), count: count)
            try memory.write(start, bytes: bytes)
            request.readable += bytes
            buffers.append((start, count, false))
        }
        for _ in 0..<input.number(below: 4) {
            let count = length(&input, storage)
            request.writable.append((next(count), count))
            buffers.append((request.writable[request.writable.count - 1].0, count, true))
        }
        if input.byte() < 250 {
            request.writable.append((next(1), 1))
            buffers.append((request.writable[request.writable.count - 1].0, 1, true))
        }
        request.writable = request.writable.filter { $0.1 > 0 }
        request.writableCount = request.writable.reduce(0) { $0 + $1.1 }
        for (index, buffer) in buffers.enumerated() {
            let descriptor = 0x1000 + 16 * UInt64(index)
            try memory.store(buffer.0, at: descriptor)
            try memory.store(UInt32(buffer.1), at: descriptor + 8)
            try memory.store(UInt16((index + 1 < buffers.count ? 1 : 0) | (buffer.2 ? 2 : 0)), at: descriptor + 12)
            try memory.store(UInt16(index + 1), at: descriptor + 14)
        }
        try memory.store(UInt16(0), at: 0x2000 + 4 + 2 * UInt64(offered % 64))
        try memory.storeReleasing(offered &+ 1, at: 0x2002)
        return request
    }

    private func length(_ input: inout FuzzInput, _ storage: BlockStorage) -> Int {
        switch input.byte() % 8 {
        case 0: 0
        case 1: Int(input.byte())
        case 2: 20
        case 3: 512
        case 4: 2 * storage.sectorSize
        default: storage.sectorSize
        }
    }

    private func segments(_ input: inout FuzzInput, _ count: Int, _ storage: BlockStorage) -> [UInt8] {
        var bytes: [UInt8] = []
        func append(_ value: UInt64, _ size: Int) {
            for index in 0..<size { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
        }
        for _ in 0..<count {
            let unit = UInt64(storage.sectorSize / 512)
            append(input.byte() < 230 ? UInt64(input.byte()) * unit : input.edge(), 8)
            append(input.byte() < 230 ? UInt64(input.byte()) * unit : input.edge(), 4)
            append(input.byte() < 230 ? UInt64(input.byte() & 1) : input.edge(), 4)
        }
        return bytes
    }

    /// The answer and the bytes for the guest, and the change of the disk.
    private func expected(_ request: Request, _ disk: inout DiskModel, _ storage: BlockStorage) -> (DiskModel.Answer, [UInt8]) {
        let (hasReadable, hasWritable) = (!request.readable.isEmpty, request.writableCount > 1)
        switch request.kind {
        // Data in the wrong direction is refused.
        case 0 where hasReadable, 8 where hasReadable, 1 where hasWritable, 11 where hasWritable, 13 where hasWritable: return (.error, [])
        case 8 where request.writableCount != 21: return (.error, [])
        case 0:
            guard let range = disk.range(request.sector, request.writableCount - 1) else { return (.error, []) }
            return (.ok, Array(disk.bytes[range]))
        case 1: return (disk.write(request), [])
        case 4: return (.ok, [])
        case 8:
            return (
                .ok, Array((Array(BlockFuzz.serial.utf8) + [UInt8](repeating: 0, count: 20)).prefix(min(20, request.writableCount - 1)))
            )
        case 11: return (disk.clear(request, limit: 32, isDiscard: true), [])
        case 13: return (disk.clear(request, limit: 1, isDiscard: false), [])
        default: return (.unsupported, [])
        }
    }

    /// Address of a byte of the request's writable part.
    private func address(of index: Int, in request: Request) -> UInt64 {
        var left = index
        for (start, count) in request.writable {
            if left < count { return start + UInt64(left) }
            left -= count
        }
        broken("no byte \(index) in \(request.writable)")
    }

    private func byte(at index: Int, of request: Request) throws -> UInt8 {
        try memory.load(address(of: index, in: request))
    }

    private func checkMemory(
        _ before: [UInt8], _ request: Request, data: [UInt8], status: UInt8, isKnown: Bool, _ disk: inout DiskModel
    ) throws {
        let after = try memory.read(0, byteCount: BlockFuzz.usedBytes)
        var (wanted, data) = (before, data)
        let last = request.writableCount - 1
        wanted[Int(address(of: last, in: request))] = status
        if request.kind == 0, isKnown, last > 0 { data = settle(after, request, &disk) }
        var done = 0
        for (start, count) in request.writable where done < last {
            let bytes = min(count, last - done)
            let source = isKnown ? data.dropFirst(done).prefix(bytes) : after[Int(start)..<Int(start) + bytes]
            wanted.replaceSubrange(Int(start)..<Int(start) + source.count, with: source)
            done += bytes
        }
        guard !isEqual(wanted, after) else { return }
        let place = zip(wanted, after).enumerated().first { $0.element.0 != $0.element.1 }
        broken("guest memory differs at \(String(describing: place)) after \(request.kind) at \(request.sector)")
    }

    /// What a read has told about unknown sectors becomes known. Returns the bytes that the guest must have read.
    private func settle(_ after: [UInt8], _ request: Request, _ disk: inout DiskModel) -> [UInt8] {
        var received: [UInt8] = []
        for (start, count) in request.writable { received += after[Int(start)..<Int(start) + count] }
        let (first, count) = (Int(request.sector) * 512, request.writableCount - 1)
        for sector in first / 512..<(first + count) / 512 where disk.unknown.remove(sector) != nil {
            let offset = sector * 512 - first
            disk.bytes.replaceSubrange(sector * 512..<(sector + 1) * 512, with: received[offset..<offset + 512])
        }
        return Array(disk.bytes[first..<first + count])
    }

    /// All of the disk is as the model says.
    private func checkWhole(_ storage: BlockStorage, _ disk: DiskModel) throws {
        let step = 64 << 10
        for offset in stride(from: 0, to: disk.bytes.count, by: step) {
            let count = min(step, disk.bytes.count - offset)
            var vector = iovec(iov_base: try memory.pointer(0x40000, byteCount: count), iov_len: count)
            try withUnsafeMutablePointer(to: &vector) { base in
                var vectors = GuestVectors(base: base, count: 1, byteCount: count)
                try storage.read(into: &vectors, at: UInt64(offset))
            }
            let bytes = try memory.read(0x40000, byteCount: count)
            if isEqual(bytes, at: 0, disk.bytes, at: offset, count: count) { continue }
            for sector in offset / 512..<(offset + count) / 512 where !disk.unknown.contains(sector) {
                let start = sector * 512
                expect(isEqual(bytes, at: start - offset, disk.bytes, at: start, count: 512), "sector \(sector) differs")
            }
        }
    }
}
