// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMBase

/// A disk's workers live as long as the disk.
@Suite struct BlockWorkerTests {
    /// A storage that counts reads.
    private final class CountingStorage: BlockStorage, @unchecked Sendable {
        let reads = Atomic<Int>(0)
        let inside = Atomic<Int>(0)

        init() {
            super.init(byteCount: 1 << 20, sectorSize: 512, isReadOnly: false)
        }

        override func read(into vectors: inout GuestVectors, at offset: UInt64) throws(StorageError) {
            inside.wrappingAdd(1, ordering: .sequentiallyConsistent)
            reads.wrappingAdd(1, ordering: .sequentiallyConsistent)
            inside.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        }
    }

    private func add(_ queue: VirtioTestQueue, _ driver: VirtioTestDriver) throws {
        let (header, data) = (driver.allocate(16), driver.allocate(513))
        try driver.memory.zero(header, byteCount: 16)
        try queue.add([
            .init(address: header, length: 16, isWritable: false), .init(address: data, length: 513, isWritable: true),
        ])
        queue.kick()
    }

    @Test func aResetMakesNoThread() throws {
        let storage = CountingStorage()
        let driver = try VirtioTestDriver(VirtioBlock(id: "loop", storage: storage))
        // Made with the disk, before a driver has been seen.
        let before = try twoThreads(named: ["blk0 loop", "blk1 loop"])
        for _ in 0..<300 {
            let queue = try driver.bringUp(driver.offered, size: 16)[0]
            try add(queue, driver)
            driver.write(0x70, 0)
            #expect(driver.status == 0)
            #expect(storage.inside.load(ordering: .sequentiallyConsistent) == 0, "no request is in flight after a reset")
        }
        #expect(try threads(named: ["blk0 loop", "blk1 loop"]) == before, "the same threads as before")
        let queue = try driver.bringUp(driver.offered, size: 16)[0]
        let reads = storage.reads.load(ordering: .sequentiallyConsistent)
        for _ in 0..<8 {
            try add(queue, driver)
            #expect(try queue.take()?.written == 513)
        }
        #expect(storage.reads.load(ordering: .sequentiallyConsistent) == reads + 8)
    }

    @Test func theWorkersEndWithTheDisk() throws {
        do {
            let driver = try VirtioTestDriver(VirtioBlock(id: "gone", storage: CountingStorage()))
            _ = try driver.bringUp(driver.offered, size: 16)
            _ = try twoThreads(named: ["blk0 gone", "blk1 gone"])
        }
        #expect(waitUntil(within: 30) { (try? threads(named: ["blk0 gone", "blk1 gone"]).isEmpty) == true })
    }

    @Test func otherStorageIsServedByTheSameWorkers() throws {
        let (first, second) = (CountingStorage(), CountingStorage())
        let disk = try VirtioBlock(id: "swap", storage: first)
        let driver = try VirtioTestDriver(disk)
        let before = try twoThreads(named: ["blk0 swap", "blk1 swap"])
        let queue = try driver.bringUp(driver.offered, size: 16)[0]
        try add(queue, driver)
        #expect(try queue.take()?.written == 513)
        try disk.replaceStorage(second)
        try add(queue, driver)
        #expect(try queue.take()?.written == 513)
        let reads = (first.reads.load(ordering: .sequentiallyConsistent), second.reads.load(ordering: .sequentiallyConsistent))
        #expect(reads == (1, 1))
        #expect(try threads(named: ["blk0 swap", "blk1 swap"]) == before)
    }

    /// The same, when there are two. A thread names itself, a moment after it was made.
    private func twoThreads(named names: Set<String>) throws -> Set<String> {
        #expect(try waitUntil(within: 30) { try threads(named: names).count == 2 })
        return try threads(named: names)
    }

    /// The numbers of this process's threads with these names.
    private func threads(named names: Set<String>) throws -> Set<String> {
        guard let folder = unsafe opendir("/proc/self/task") else { return [] }
        defer { unsafe closedir(folder) }
        var found: Set<String> = []
        while let entry = unsafe readdir(folder) {
            let number = unsafe withUnsafeBytes(of: entry.pointee.d_name) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            // A thread that ends meanwhile has no file.
            guard let bytes = try? SmallFile.read("/proc/self/task/\(number)/comm", atMost: 64) else { continue }
            if names.contains(String(decoding: bytes.filter { $0 != 10 }, as: UTF8.self)) { found.insert(number) }
        }
        return found
    }
}
