// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMBase

/// A storage whose requests fail, or are slow.
private final class TroubledStorage: BlockStorage, @unchecked Sendable {
    let fault: StorageError?
    let inside = Atomic<Int>(0)
    let most = Atomic<Int>(0)
    let release = Atomic<Bool>(false)

    init(fault: StorageError?) {
        self.fault = fault
        super.init(byteCount: 1 << 20, sectorSize: 512, isReadOnly: false)
    }

    override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
        if let fault { throw fault }
        let now = inside.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue
        most.max(now, ordering: .sequentiallyConsistent)
        while !release.load(ordering: .sequentiallyConsistent) { usleep(100) }
        inside.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    }

    override func flush() throws(StorageError) {
        if let fault { throw fault }
    }
}

@Suite struct VirtioBlockTests {
    private static let all = VirtioTestDriver.ringFeatures | 1 << 2 | 1 << 6 | 1 << 9 | 1 << 13 | 1 << 14

    private struct Disk {
        let driver: VirtioTestDriver
        let queue: VirtioTestQueue
        private let header: UInt64
        let status: UInt64
        let data: UInt64

        init(_ storage: BlockStorage, features: UInt64 = VirtioBlockTests.all) throws {
            driver = try VirtioTestDriver(VirtioBlock(id: "root", storage: storage))
            queue = try driver.bringUp(features & driver.offered, size: 128)[0]
            header = driver.allocate(16)
            status = driver.allocate(1)
            data = driver.allocate(1 << 20)
        }

        func submit(_ kind: UInt32, sector: UInt64, bytes: Int, parts: Int = 1, indirect: Bool = false, kick: Bool = true) throws {
            try driver.memory.store(kind, at: header)
            try driver.memory.store(UInt32(0), at: header + 4)
            try driver.memory.store(sector, at: header + 8)
            try driver.memory.store(UInt8(0xee), at: status)
            var buffers = [VirtioTestQueue.Buffer(address: header, length: 16, isWritable: false)]
            let part = bytes / parts
            for number in 0..<parts where bytes > 0 {
                let isWritable = kind == 0 || kind == 8
                buffers.append(.init(address: data + UInt64(number * part), length: UInt32(part), isWritable: isWritable))
            }
            buffers.append(.init(address: status, length: 1, isWritable: true))
            try queue.add(buffers, indirect: indirect)
            if kick { queue.kick() }
        }

        /// Makes a request and waits for it. Returns its status and the number of bytes written.
        func request(_ kind: UInt32, sector: UInt64 = 0, bytes: Int = 0, parts: Int = 1, indirect: Bool = false) throws -> [UInt32] {
            try submit(kind, sector: sector, bytes: bytes, parts: parts, indirect: indirect)
            guard let taken = try queue.take() else { return [] }
            return [UInt32(try driver.memory.load(status, as: UInt8.self)), taken.written]
        }

        func segment(_ sector: UInt64, _ count: UInt32, _ flags: UInt32, number: UInt64 = 0) throws {
            try driver.memory.store(sector, at: data + 16 * number)
            try driver.memory.store(count, at: data + 16 * number + 8)
            try driver.memory.store(flags, at: data + 16 * number + 12)
        }

        func fill(_ bytes: Int, seed: UInt64) throws -> [UInt8] {
            var random = VirtioTestRandom(state: seed)
            let pattern = (0..<bytes).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            try driver.memory.write(data, bytes: pattern)
            return pattern
        }
    }

    private func contents(_ path: String, _ offset: Int, _ count: Int) throws -> [UInt8] {
        let descriptor = try OwnedFileDescriptor.open(path, O_RDONLY)
        var bytes = [UInt8](repeating: 0xaa, count: count)
        let got = unsafe pread(descriptor.rawValue, &bytes, count, offset)
        #expect(got == count)
        return bytes
    }

    @Test func writesReachTheFileAndReadBack() throws {
        let folder = try VirtioTestFolder()
        let path = try folder.file("disk", byteCount: 8 << 20)
        let disk = try Disk(try FileStorage(path: path, isReadOnly: false))
        for (parts, indirect) in [(1, false), (8, false), (64, true)] {
            let pattern = try disk.fill(64 << 10, seed: UInt64(parts))
            #expect(try disk.request(1, sector: 100, bytes: 64 << 10, parts: parts, indirect: indirect) == [0, 1])
            #expect(try disk.request(4) == [0, 1])
            #expect(try contents(path, 100 * 512, 64 << 10) == pattern)
            try disk.driver.memory.zero(disk.data, byteCount: 64 << 10)
            #expect(try disk.request(0, sector: 100, bytes: 64 << 10, parts: parts, indirect: indirect) == [0, 65537])
            #expect(try disk.driver.memory.read(disk.data, byteCount: 64 << 10) == pattern)
        }
        #expect(disk.driver.counter("reads") == 3)
        #expect(disk.driver.counter("written_bytes") == 3 * 64 << 10)
        #expect(disk.driver.counter("flushes") == 3)
    }

    @Test func configurationSpace() throws {
        let folder = try VirtioTestFolder()
        let disk = try Disk(try FileStorage(path: try folder.file("disk", byteCount: 8 << 20), isReadOnly: false, sectorSize: 4096))
        #expect(disk.driver.transport.read(offset: 0x100, size: 8) == 16384)
        #expect(disk.driver.read(0x100 + 12) == 254)
        #expect(disk.driver.read(0x100 + 20) == 4096)
        #expect(disk.driver.read(0x100 + 36) == 1 << 22)
        #expect(disk.driver.read(0x100 + 44) == 8)
        #expect(disk.driver.transport.read(offset: 0x100 + 34, size: 2) == 1)
        #expect(disk.driver.transport.read(offset: 0x100 + 60, size: 4) == 0xffff_ffff)
        #expect(disk.driver.transport.read(offset: 0x1ff, size: 8) == .max)
        // With sectors of 4 KiB, a request of 512 bytes is too short.
        #expect(try disk.request(0, sector: 0, bytes: 512) == [1, 0])
        #expect(try disk.request(0, sector: 1, bytes: 4096) == [1, 0])
        #expect(try disk.request(0, sector: 8, bytes: 4096) == [0, 4097])
    }

    @Test func outOfRangeAndUnknownRequestsFail() throws {
        let folder = try VirtioTestFolder()
        let disk = try Disk(try FileStorage(path: try folder.file("disk", byteCount: 1 << 20), isReadOnly: false))
        #expect(try disk.request(0, sector: 2047, bytes: 512) == [0, 513])
        for sector: UInt64 in [2048, 2047 + 1, 1 << 54, 1 << 55, .max] {
            // The status is behind the data, which was not written, so the used length is 0.
            #expect(try disk.request(0, sector: sector, bytes: 512) == [1, 0])
            #expect(try disk.request(1, sector: sector, bytes: 512) == [1, 1])
        }
        #expect(try disk.request(1, sector: 2047, bytes: 1024) == [1, 1])
        #expect(try disk.request(0, sector: 0, bytes: 100) == [1, 0])
        #expect(try disk.request(99) == [2, 1])
        #expect(try disk.request(14, bytes: 16) == [2, 1], "secure erase was not offered")
        #expect(disk.driver.counter("refused_requests") == 12)
        #expect(disk.driver.counter("unsupported_requests") == 2)
        #expect(disk.driver.status == 15)
    }

    @Test func serialNumber() throws {
        let folder = try VirtioTestFolder()
        let disk = try Disk(try FileStorage(path: try folder.file("disk", byteCount: 1 << 20), isReadOnly: true))
        #expect(try disk.request(8, bytes: 20) == [0, 21])
        #expect(try disk.driver.memory.read(disk.data, byteCount: 20) == Array("root".utf8) + [UInt8](repeating: 0, count: 16))
    }

    @Test func readOnlyDiskRefusesEveryChange() throws {
        let folder = try VirtioTestFolder()
        let path = try folder.file("disk", byteCount: 1 << 20)
        let disk = try Disk(try FileStorage(path: path, isReadOnly: true))
        #expect(disk.driver.offered & 1 << 5 != 0)
        #expect(disk.driver.offered & (1 << 13 | 1 << 14) == 0)
        _ = try disk.fill(4096, seed: 1)
        #expect(try disk.request(1, bytes: 4096) == [1, 1])
        try disk.segment(0, 8, 0)
        #expect(try disk.request(11, bytes: 16) == [2, 1], "discard is not offered")
        #expect(try disk.request(13, bytes: 16) == [2, 1], "write zeroes is not offered")
        #expect(try disk.request(4) == [0, 1])
        #expect(try disk.request(0, bytes: 4096) == [0, 4097])
        #expect(try contents(path, 0, 4096) == [UInt8](repeating: 0, count: 4096))
    }

    @Test func discardAndWriteZeroes() throws {
        let folder = try VirtioTestFolder()
        let path = try folder.file("disk", byteCount: 4 << 20)
        let disk = try Disk(try FileStorage(path: path, isReadOnly: false))
        func write() throws -> [UInt8] {
            let pattern = try disk.fill(1 << 20, seed: 7)
            #expect(try disk.request(1, bytes: 1 << 20, parts: 16, indirect: true) == [0, 1])
            return pattern
        }
        let zero = [UInt8](repeating: 0, count: 1 << 20)
        let pattern = try write()
        try disk.segment(8, 8, 0)
        try disk.segment(64, 8, 0, number: 1)
        #expect(try disk.request(11, bytes: 32) == [0, 1])
        #expect(try contents(path, 0, 4096) == Array(pattern.prefix(4096)))
        #expect(try contents(path, 8192, 4096) == Array(pattern[8192..<12288]))
        for flags: UInt32 in [0, 1] {
            let pattern = try write()
            // Not whole pages, to test the edges.
            try disk.segment(3, 1001, flags)
            #expect(try disk.request(13, bytes: 16) == [0, 1])
            #expect(try contents(path, 0, 3 * 512) == Array(pattern.prefix(3 * 512)))
            #expect(try contents(path, 3 * 512, 1001 * 512) == Array(zero.prefix(1001 * 512)))
            #expect(try contents(path, 1004 * 512, 512) == Array(pattern[1004 * 512..<1005 * 512]))
        }
        for (kind, segment, status) in [
            (UInt32(11), (UInt64(0), UInt32(8), UInt32(1)), UInt32(2)), (13, (0, 8, 2), 2), (11, (8192, 1, 0), 1), (13, (.max, 1, 0), 1),
            (11, (0, .max, 0), 1), (13, (0, 1 << 18 + 1, 0), 1),
        ] {
            try disk.segment(segment.0, segment.1, segment.2)
            #expect(try disk.request(kind, bytes: 16) == [status, 1])
        }
        #expect(try disk.request(11, bytes: 8) == [1, 1], "half a segment")
        #expect(try disk.request(13, bytes: 32) == [1, 1], "two segments where one is the limit")
        #expect(try disk.request(11, bytes: 0) == [1, 1])
    }

    @Test func aRequestWithoutStatusBreaksTheQueue() throws {
        for buffers: [(UInt32, Bool)] in [[(8, false)], [(16, false)], [(16, false), (512, false)]] {
            let folder = try VirtioTestFolder()
            let disk = try Disk(try FileStorage(path: try folder.file("disk", byteCount: 1 << 20), isReadOnly: false))
            try disk.queue.add(buffers.map { .init(address: disk.data, length: $0.0, isWritable: $0.1) })
            disk.queue.kick()
            #expect(waitUntil { disk.driver.status & 64 != 0 })
        }
    }

    @Test func malformedRequestsFail() throws {
        let folder = try VirtioTestFolder()
        let disk = try Disk(try FileStorage(path: try folder.file("disk", byteCount: 1 << 20), isReadOnly: false))
        // A short header, and none; a read with data that the device can only read; a write with data that it can only write.
        let cases: [(kind: UInt32, buffers: [(UInt32, Bool)], written: UInt32)] = [
            (4, [(8, false), (1, true)], 1), (4, [(1, true)], 1), (0, [(16, false), (512, false), (1, true)], 1),
            (1, [(16, false), (512, true), (1, true)], 0), (8, [(16, false), (19, true), (1, true)], 0),
            (8, [(16, false), (21, true), (1, true)], 0),
        ]
        for (kind, buffers, written) in cases {
            try disk.driver.memory.zero(disk.data, byteCount: 1024)
            try disk.driver.memory.store(kind, at: disk.data)
            try disk.queue.add(
                buffers.enumerated().map { number, buffer in
                    let address = number == buffers.count - 1 ? disk.status : disk.data + UInt64(number) * 16
                    return VirtioTestQueue.Buffer(address: address, length: buffer.0, isWritable: buffer.1)
                })
            disk.queue.kick()
            #expect(try disk.queue.take()?.written == written)
            #expect(try disk.driver.memory.load(disk.status, as: UInt8.self) == 1)
        }
        #expect(disk.driver.counter("refused_requests") == 6)
        #expect(disk.driver.status == 15)
    }

    @Test func discardAndWriteZeroesNeedTheirFeatures() throws {
        let folder = try VirtioTestFolder()
        let storage = try FileStorage(path: try folder.file("disk", byteCount: 1 << 20), isReadOnly: false)
        let disk = try Disk(storage, features: VirtioFeature.version1)
        try disk.segment(0, 8, 0)
        #expect(try disk.request(11, bytes: 16) == [2, 1])
        #expect(try disk.request(13, bytes: 16) == [2, 1])
    }

    @Test func hostErrorsReachTheGuest() throws {
        for error in [EIO, ENOSPC] {
            let disk = try Disk(TroubledStorage(fault: .failed(errno: error)))
            #expect(try disk.request(0, bytes: 512) == [1, 0])
            #expect(try disk.request(4) == [1, 1])
            #expect(disk.driver.counter("host_errors") == 2)
        }
        let disk = try Disk(TroubledStorage(fault: .unsupported))
        #expect(try disk.request(4) == [2, 1])
    }

    @Test func aFileThatShrankIsAnError() throws {
        let folder = try VirtioTestFolder()
        let path = try folder.file("disk", byteCount: 1 << 20)
        let disk = try Disk(try FileStorage(path: path, isReadOnly: false))
        #expect(unsafe truncate(path, 4096) == 0)
        #expect(try disk.request(0, sector: 8, bytes: 4096) == [1, 0])
        #expect(try disk.request(0, sector: 7, bytes: 1024) == [1, 0])
        #expect(try disk.request(0, sector: 0, bytes: 4096) == [0, 4097])
    }

    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func aFullHostDiskIsAnIOError() throws {
        let folder = try VirtioTestFolder()
        let mounted = unsafe mount("tmpfs", folder.path, "tmpfs", 0, "size=1m") == 0
        try #require(mounted, "mount: \(errno)")
        defer { _ = unsafe umount2(folder.path, Int32(2)) }
        let disk = try Disk(try FileStorage(path: try folder.file("disk", byteCount: 8 << 20), isReadOnly: false))
        let pattern = try disk.fill(256 << 10, seed: 3)
        var results: [UInt32] = []
        for number in 0..<8 { results += try disk.request(1, sector: UInt64(number * 512), bytes: 256 << 10).prefix(1) }
        #expect(results.first == 0)
        #expect(results.last == 1)
        #expect(disk.driver.counter("host_errors") > 0)
        #expect(disk.driver.status == 15, "the device lives")
        try disk.driver.memory.zero(disk.data, byteCount: 256 << 10)
        #expect(try disk.request(0, sector: 0, bytes: 256 << 10) == [0, 262145])
        #expect(try disk.driver.memory.read(disk.data, byteCount: 256 << 10) == pattern)
        // After a discard there is room again.
        try disk.segment(0, 2048, 0)
        #expect(try disk.request(11, bytes: 16) == [0, 1])
        #expect(try disk.request(1, sector: 4096, bytes: 256 << 10) == [0, 1])
    }

    @Test func twoRequestsAtOnceAndAResetWaits() throws {
        let storage = TroubledStorage(fault: nil)
        let disk = try Disk(storage)
        // Both workers find the queue empty and sleep. Then one notification wakes one worker, which must wake the other.
        usleep(50_000)
        for _ in 0..<4 { try disk.submit(0, sector: 0, bytes: 512, kick: false) }
        disk.queue.kick()
        #expect(waitUntil { storage.inside.load(ordering: .sequentiallyConsistent) == 2 }, "both workers are busy")
        let driver = disk.driver.transport
        let flag = ResetFlag()
        let thread = try Thread(.command, "reset") {
            driver.writeRegister(offset: 0x70, size: 4, value: 0)
            flag.done.store(true, ordering: .sequentiallyConsistent)
        }
        #expect(!waitUntil(within: 0.1) { flag.done.load(ordering: .sequentiallyConsistent) }, "the reset waits for what is in flight")
        #expect(disk.driver.read(0x00) == 0x7472_6976, "registers answer meanwhile")
        storage.release.store(true, ordering: .sequentiallyConsistent)
        thread.join()
        let isDone = flag.done.load(ordering: .sequentiallyConsistent)
        #expect(isDone)
        let (most, inside) = (storage.most.load(ordering: .sequentiallyConsistent), storage.inside.load(ordering: .sequentiallyConsistent))
        #expect(most == 2)
        #expect(inside == 0)
        let used = try disk.queue.usedIndex
        usleep(20_000)
        #expect(try disk.queue.usedIndex == used, "nothing is touched after a reset")
    }

    @Test func anotherFileTakesADisksPlaceAndTheGuestIsTold() throws {
        let folder = try VirtioTestFolder()
        let (first, second) = (try folder.file("first", byteCount: 1 << 20), try folder.file("second", byteCount: 4 << 20))
        let old = try FileStorage(path: first, isReadOnly: false)
        let disk = try Disk(old)
        let device = try #require(disk.driver.transport.device as? VirtioBlock)
        let onFirst = try disk.fill(4096, seed: 1)
        #expect(try disk.request(1, sector: 8, bytes: 4096) == [0, 1])
        #expect(try disk.request(0, sector: 1 << 11, bytes: 4096) == [1, 0])
        let generation = disk.driver.read(0xfc)
        disk.driver.write(0x64, 3)
        try device.replaceStorage(FileStorage(path: second, replacing: old))
        // The device has changed the size and raised a configuration interrupt.
        #expect(disk.driver.read(0x60) & 2 == 2)
        #expect(disk.driver.read(0xfc) != generation)
        #expect(disk.driver.transport.read(offset: 0x100, size: 8) == 8192)
        #expect(disk.driver.read(0x100) == 8192)
        #expect(disk.driver.read(0x104) == 0)
        #expect(disk.driver.transport.read(offset: 0x101, size: 1) == 0x20)
        #expect(disk.driver.transport.read(offset: 0x106, size: 8) & 0xffff == 0)
        let onSecond = try disk.fill(4096, seed: 2)
        #expect(try disk.request(1, sector: 1 << 11, bytes: 4096) == [0, 1])
        #expect(try contents(second, 1 << 20, 4096) == onSecond)
        #expect(try contents(first, 8 * 512, 4096) == onFirst)
        // The same file again, which has grown: the device reads its size again, although the file is locked.
        let grown = try OwnedFileDescriptor.open(second, O_RDWR)
        #expect(ftruncate(grown.rawValue, 8 << 20) == 0)
        let current = try #require(device.storage as? FileStorage)
        try device.replaceStorage(FileStorage(path: second, replacing: current))
        #expect(disk.driver.read(0x100) == 16384)
        #expect(try disk.request(1, sector: 16376, bytes: 4096) == [0, 1])
        // The properties that the guest has read must not change.
        #expect(throws: VMMError.self) { try device.replaceStorage(FileStorage(path: first, isReadOnly: true)) }
        #expect(throws: VMMError.self) { try device.replaceStorage(FileStorage(path: first, isReadOnly: false, sectorSize: 4096)) }
        #expect(try disk.request(0, sector: 16376, bytes: 4096) == [0, 4097])
    }

    @Test func aChangeOfAnInactiveDiskIsAnnouncedWhenItBecomesActive() throws {
        let folder = try VirtioTestFolder()
        let (first, second) = (try folder.file("first", byteCount: 1 << 20), try folder.file("second", byteCount: 4 << 20))
        let third = try folder.file("third", byteCount: 2 << 20)
        let old = try FileStorage(path: first, isReadOnly: false)
        let disk = try Disk(old)
        let (driver, device) = (disk.driver, try #require(disk.driver.transport.device as? VirtioBlock))
        // The driver reads the size before DRIVER_OK, and the disk changes before it, too.
        #expect(driver.negotiate(VirtioTestDriver.ringFeatures))
        _ = try driver.setUpQueue(0, size: 64)
        let generation = driver.read(0xfc)
        try device.replaceStorage(FileStorage(path: second, replacing: old))
        #expect(driver.read(0x60) == 0, "no interrupt before DRIVER_OK")
        driver.start()
        #expect(driver.read(0x60) & 2 == 2)
        #expect(driver.read(0xfc) != generation)
        #expect(driver.read(0x100) == 8192)
        // Only once.
        #expect(try driver.bringUp().count == 1)
        #expect(driver.read(0x60) == 0)
        // The same for a device that is suspended while a machine's state is saved.
        driver.transport.suspend()
        try device.replaceStorage(FileStorage(path: third, replacing: try #require(device.storage as? FileStorage)))
        driver.transport.resume()
        #expect(driver.read(0x60) & 2 == 2)
        #expect(driver.read(0x100) == 4096)
    }

    private final class ResetFlag: Sendable {
        let done = Atomic<Bool>(false)
    }

    /// A driver that notifies and polls only when necessary: it hangs if a notification or an interrupt is lost.
    @Test(arguments: [true, false])
    func noRingIsLost(_ eventIndex: Bool) throws {
        let folder = try VirtioTestFolder()
        let storage = try FileStorage(path: try folder.file("disk", byteCount: 1 << 20), isReadOnly: false)
        let features = eventIndex ? VirtioBlockTests.all : VirtioBlockTests.all & ~VirtioFeature.eventIndex
        let disk = try Disk(storage, features: features)
        let (queue, memory) = (disk.queue, disk.driver.memory)
        let header = disk.driver.allocate(16)
        try memory.zero(header, byteCount: 16)
        var random = VirtioTestRandom(state: 11)
        var (rings, requests, interrupts) = (0, 0, UInt64(0))
        while requests < 10_000 {
            let batch = 1 + Int(random.next() % 4)
            for _ in 0..<batch {
                let old = queue.nextAvailable
                let place = disk.data + UInt64(requests % 64) * 1024
                try queue.add([
                    .init(address: header, length: 16, isWritable: false), .init(address: place, length: 512, isWritable: true),
                    .init(address: place + 512, length: 1, isWritable: true),
                ])
                if try queue.kickIfWanted(since: old, eventIndex: eventIndex) { rings += 1 }
                requests += 1
            }
            // Request an interrupt at the last buffer of the batch, check the queue once, then rely on the interrupt.
            let last = queue.nextAvailable &- 1
            if eventIndex { try memory.storeReleasing(last, at: queue.available + 4 + 2 * UInt64(queue.size)) }
            atomicMemoryFence(ordering: .sequentiallyConsistent)
            while try queue.usedIndex != queue.nextAvailable {
                let isTold = waitUntil { disk.driver.line.takePending() > 0 }
                try #require(isTold, "told of nothing after \(requests) requests")
                interrupts += 1
                disk.driver.write(0x64, 1)
            }
        }
        #expect(rings <= requests)
        #expect(disk.driver.counter("reads") == UInt64(requests))
        #expect(disk.driver.counter("notification_exits") == UInt64(rings))
        #expect(interrupts > 0)
    }
}
