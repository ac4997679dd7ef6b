// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SwapBypass
@testable import SymVMM
@testable import VMMBase

/// Pages that move between the window's memory, compressed pages and the file.
@Suite struct SwapTierTests {
    private static let chunk = UInt64(BudgetStore.chunkBytes)

    /// A store with room for compressed pages.
    private func makeStore(_ folder: VirtioTestFolder, budget: UInt64 = 48 << 20, byteCount: UInt64 = 64 << 20) throws -> BudgetStore {
        let store = try BudgetStore(path: "\(folder.path)/swap", byteCount: byteCount, budget: budget)
        store.keepReserve()
        return store
    }

    /// A page of its own for each slot: compressible, not compressible, or zero.
    private func contents(_ slot: Int, _ kind: Int) -> [UInt8] {
        var seed = UInt64(slot) &* 0x9e37_79b9_7f4a_7c15 | 1
        switch kind {
        case 0: return (0..<4096).map { UInt8(truncatingIfNeeded: $0 % 64 + slot) }
        case 1:
            return (0..<4096).map { _ in
                seed ^= seed << 13
                seed ^= seed >> 7
                seed ^= seed << 17
                return UInt8(truncatingIfNeeded: seed >> 11)
            }
        default: return [UInt8](repeating: 0, count: 4096)
        }
    }

    private func transfer(_ page: inout [UInt8], _ body: (inout GuestVectors) throws(StorageError) -> Void) throws {
        try unsafe page.withUnsafeMutableBytes { bytes in
            var range = unsafe iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
            try unsafe withUnsafeMutablePointer(to: &range) { base in
                var vectors = unsafe GuestVectors(base: base, count: 1, byteCount: bytes.count)
                try body(&vectors)
            }
        }
    }

    private func write(_ store: SwapStore, _ slot: Int, _ page: [UInt8]) throws {
        var page = page
        try transfer(&page) { vectors throws(StorageError) in try store.write(from: &vectors, at: UInt64(slot) * 4096) }
    }

    private func read(_ store: SwapStore, _ slot: Int) throws -> [UInt8] {
        var page = [UInt8](repeating: 0xee, count: 4096)
        try transfer(&page) { vectors throws(StorageError) in try store.read(into: &vectors, at: UInt64(slot) * 4096) }
        return page
    }

    /// What the guest sees in the window; empty if it cannot map the slot.
    private func window(_ store: BudgetStore, _ slot: Int) -> [UInt8] {
        guard store.resident.contains(UInt64(slot)) else { return [] }
        return unsafe [UInt8](UnsafeRawBufferPointer(start: store.mapping.baseAddress + slot * 4096, count: 4096))
    }

    private func fill(_ store: SwapStore, _ slots: Range<Int>, _ kind: Int) throws {
        for slot in slots { try write(store, slot, contents(slot, kind)) }
    }

    private func move(_ store: BudgetStore, _ index: Int, toFile: Bool) throws -> Bool {
        store.finish(try #require(store.begin(index, toFile: toFile)))
    }

    /// Bytes of host memory behind the window.
    private func measured(_ store: SwapStore) throws -> UInt64 {
        var states = [UInt8](repeating: 0, count: Int(store.byteCount) / 4096)
        try #require(unsafe mincore(store.mapping.baseAddress, Int(store.byteCount), &states) == 0)
        return states.reduce(0) { $0 + UInt64($1 & 1) } * 4096
    }

    @Test func aCompressedChunkComesBackInAFault() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder)
        try fill(store, 512..<1024, 0)
        #expect(store.residentByteCount == SwapTierTests.chunk)
        #expect(try move(store, 1, toFile: false))
        #expect(store.residentByteCount < SwapTierTests.chunk / 4 && store.residentByteCount == store.compressedBytes.count)
        #expect(try measured(store) == 0)
        #expect((512..<1024).allSatisfy { !store.resident.contains(UInt64($0)) })
        // The disk reads them where they are.
        for slot in [512, 700, 1023] { #expect(try read(store, slot) == contents(slot, 0)) }
        #expect(store.residentByteCount == store.compressedBytes.count)
        // A fault brings a block back, the mover the rest.
        #expect(store.bringBack(700))
        #expect(store.resident.contains(640) && store.resident.contains(703) && !store.resident.contains(704))
        #expect(window(store, 700) == contents(700, 0))
        store.bringBackChunk(1)
        #expect(store.compressedBytes.count == 0 && store.residentByteCount == SwapTierTests.chunk)
        for slot in 512..<1024 { #expect(window(store, slot) == contents(slot, 0) && store.resident.contains(UInt64(slot))) }
        #expect(store.statistics.compressed.hits >= 4 && store.statistics.toCompressed.load(ordering: .relaxed) == 512)
    }

    @Test func aChunkInTheFileComesBackAfterARead() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder)
        try fill(store, 600..<900, 1)
        #expect(try move(store, 1, toFile: true))
        #expect(try measured(store) == 0 && store.residentByteCount == 0)
        #expect(!store.bringBack(650), "the guest reads it from the disk")
        #expect(try read(store, 650) == contents(650, 1))
        #expect(store.work.withLock { $0.chunks } == [1])
        #expect(store.returns(1))
        store.bringBackChunk(1)
        for slot in 600..<900 { #expect(window(store, slot) == contents(slot, 1) && store.resident.contains(UInt64(slot))) }
        #expect(!store.resident.contains(599) && !store.resident.contains(900))
        #expect(try read(store, 599).allSatisfy { $0 == 0 })
    }

    @Test func whatDoesNotShrinkGoesToTheFile() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder)
        try fill(store, 512..<1024, 1)
        #expect(try move(store, 1, toFile: false))
        #expect(store.residentByteCount == 0 && store.statistics.toFile.load(ordering: .relaxed) == 512)
        #expect(store.tiers.withLock { $0.chunks[1].isIncompressible })
        // Some pages that do not shrink are kept among others that do.
        try fill(store, 1024..<1500, 0)
        try fill(store, 1500..<1536, 1)
        #expect(try move(store, 2, toFile: false))
        #expect(store.compressedBytes.count > 36 * 4096 && store.compressedBytes.count < SwapTierTests.chunk / 2)
        for slot in [512, 1023] { #expect(try read(store, slot) == contents(slot, 1)) }
        for slot in [1024, 1499] { #expect(try read(store, slot) == contents(slot, 0)) }
        for slot in [1500, 1535] { #expect(try read(store, slot) == contents(slot, 1)) }
        // Compressed pages go on to the file.
        #expect(store.spill(2))
        #expect(store.residentByteCount == 0)
        for slot in [1024, 1499] { #expect(try read(store, slot) == contents(slot, 0)) }
    }

    @Test func zeroPagesCostNothing() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder)
        try fill(store, 512..<1024, 2)
        #expect(store.residentByteCount == 0)
        #expect(try read(store, 700).allSatisfy { $0 == 0 })
        #expect(!store.bringBack(700), "a chunk for zeroes would cost 2 MiB")
        // In a chunk that is there, the guest can map them.
        try write(store, 600, contents(600, 0))
        for slot in [530, 700] { #expect(store.bringBack(UInt64(slot)) && window(store, slot) == contents(slot, 2)) }
        #expect(store.residentByteCount == SwapTierTests.chunk)
        #expect(try move(store, 1, toFile: false))
        #expect(store.compressedBytes.count == 4096, "one page besides zeroes")
        #expect(try read(store, 700).allSatisfy { $0 == 0 })
        #expect(try read(store, 600) == contents(600, 0))
        // A slot that had something else reads as zeroes after zeroes were written.
        try write(store, 600, contents(600, 2))
        #expect(store.residentByteCount == 0)
        #expect(try read(store, 600).allSatisfy { $0 == 0 })
    }

    @Test func aWriteOrATouchEndsAMove() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder)
        try fill(store, 512..<700, 0)
        let first = try #require(store.begin(1, toFile: false))
        #expect(!store.resident.contains(600))
        #expect(store.begin(1, toFile: true) == nil, "it leaves already")
        try write(store, 600, contents(601, 1))
        #expect(store.resident.contains(600) && store.resident.contains(512) && !store.resident.contains(700))
        #expect(!store.finish(first))
        #expect(try read(store, 600) == contents(601, 1))
        let second = try #require(store.begin(1, toFile: true))
        #expect(store.bringBack(512))
        #expect(!store.finish(second))
        // A move that was cancelled does not end a later one.
        let third = try #require(store.begin(1, toFile: true))
        store.abandon(second)
        #expect(!store.resident.contains(512))
        store.abandon(third)
        #expect(store.resident.contains(512))
        // All slots are discarded meanwhile.
        let last = try #require(store.begin(1, toFile: false))
        try store.discard(at: SwapTierTests.chunk, byteCount: SwapTierTests.chunk)
        #expect(store.finish(last))
        #expect(store.residentByteCount == 0)
        #expect(try measured(store) == 0)
        #expect(try read(store, 600).allSatisfy { $0 == 0 })
    }

    /// Otherwise a guest could keep its memory by touching it all the time.
    @Test func nothingEndsAMoveBeyondTheBudget() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder)
        try fill(store, 512..<700, 0)
        #expect(store.setBudget(0))
        let move = try #require(store.begin(1, toFile: true))
        #expect(!store.bringBack(512))
        try write(store, 600, contents(7, 1))
        try write(store, 601, contents(7, 2))
        try write(store, 800, contents(8, 2))
        #expect(try read(store, 512) == contents(512, 0))
        #expect(!store.resident.contains(512) && !store.resident.contains(600))
        #expect(store.finish(move))
        #expect(try store.residentByteCount == 0 && measured(store) == 0)
        #expect(try read(store, 512) == contents(512, 0) && read(store, 699) == contents(699, 0))
        #expect(try read(store, 600) == contents(7, 1) && read(store, 601) == contents(7, 2) && read(store, 800) == contents(8, 2))
    }

    @Test func aFullBudgetBringsNothingBack() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder, budget: 40 << 20)
        try fill(store, 512..<1024, 0)
        #expect(try move(store, 1, toFile: false))
        var slot = 1024
        while store.tiers.withLock({ store.hasRoom($0) }) {
            try write(store, slot, contents(slot, 0))
            slot += 512
        }
        #expect(!store.bringBack(700) && !store.returns(1))
        #expect(try read(store, 700) == contents(700, 0))
        #expect(store.residentByteCount <= 40 << 20)
        #expect(store.statistics.noRoom.load(ordering: .relaxed) == 1)
        #expect(store.setBudget(64 << 20))
        #expect(store.bringBack(700))
    }

    @Test func theBuilderCountsItsMemory() throws {
        let account = CompressedBytes()
        do {
            var builder = try CompressedChunk.Builder(account)
            let page = contents(1, 1)
            let isAdded = unsafe page.withUnsafeBytes { bytes in
                guard let start = bytes.baseAddress else { return false }
                return unsafe builder.append(3, start)
            }
            #expect(isAdded)
            #expect(account.count > 4096)
            let isWorthwhile = builder.isWorthwhile
            #expect(!isWorthwhile)
            builder.cancel()
        }
        #expect(account.count == 0)
        var builder = try CompressedChunk.Builder(account)
        for index in stride(from: 1, to: 512, by: 2) {
            let isAdded = unsafe contents(index, index % 16 == 1 ? 1 : 0).withUnsafeBytes { bytes in
                guard let start = bytes.baseAddress else { return false }
                return unsafe builder.append(index, start)
            }
            #expect(isAdded)
        }
        var chunk = builder.finish()
        #expect(account.count == UInt64(chunk?.byteCount ?? 0) && account.count > 32 * 4096)
        for index in 0..<512 {
            var page = [UInt8](repeating: 9, count: 4096)
            let isRead = unsafe page.withUnsafeMutableBytes { bytes in
                guard let start = bytes.baseAddress else { return false }
                return unsafe chunk?.read(index, into: start) == true
            }
            #expect(isRead == (index % 2 == 1))
            if index % 2 == 1 { #expect(page == contents(index, index % 16 == 1 ? 1 : 0)) }
        }
        chunk = nil
        #expect(account.count == 0)
        #expect(try CompressedChunk.Builder(account).finish() == nil)
    }

    // MARK: The mover

    /// The guest's side.
    private final class Guest: TierGuest, @unchecked Sendable {
        let allows = Atomic<Bool>(true)
        let runs = Atomic<Bool>(true)
        let evictions = Atomic<Int>(0)
        let passes = Atomic<Int>(0)

        var isRunning: Bool { runs.load(ordering: .sequentiallyConsistent) }

        func evict() -> Bool {
            evictions.wrappingAdd(1, ordering: .relaxed)
            return allows.load(ordering: .sequentiallyConsistent)
        }

        func age() -> Bool {
            passes.wrappingAdd(1, ordering: .relaxed)
            return true
        }
    }

    private func wait(_ condition: () -> Bool) -> Bool {
        for _ in 0..<20_000 {
            if condition() { return true }
            usleep(1000)
        }
        return false
    }

    @Test(.timeLimit(.minutes(2))) func aSmallerBudgetTakesEffectAndALargerOneToo() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder, budget: 128 << 20, byteCount: 128 << 20)
        let guest = Guest()
        let mover = TierMover(store, passSeconds: 0.02) { guest }
        try mover.start()
        defer { mover.stop() }
        for index in 1..<40 { try fill(store, index * 512..<index * 512 + 200, index % 4 == 3 ? 1 : 0) }
        // A guest that keeps its mappings keeps its pages.
        guest.allows.store(false, ordering: .sequentiallyConsistent)
        #expect(store.setBudget(40 << 20))
        #expect(wait { store.statistics.refusedMoves.load(ordering: .relaxed) > 0 })
        #expect(store.residentByteCount >= 78 << 20)
        guest.allows.store(true, ordering: .sequentiallyConsistent)
        #expect(wait { store.residentByteCount <= TierPolicy.target(40 << 20) })
        for budget in [4, 0] as [UInt64] {
            #expect(store.setBudget(budget << 20))
            #expect(wait { store.residentByteCount <= budget << 20 }, "\(store.residentByteCount)")
        }
        #expect(try measured(store) == 0)
        #expect(store.tiers.withLock { tiers in tiers.chunks.allSatisfy { ($0.compressedPages > 0) == ($0.compressed != nil) } })
        for index in 1..<40 { #expect(try read(store, index * 512 + 150) == contents(index * 512 + 150, index % 4 == 3 ? 1 : 0)) }
        // With a larger one, reads bring chunks back. A guest that stands still moves nothing.
        guest.runs.store(false, ordering: .sequentiallyConsistent)
        #expect(store.setBudget(128 << 20))
        _ = try read(store, 20 * 512)
        usleep(100_000)
        #expect(store.residentByteCount == 0)
        guest.runs.store(true, ordering: .sequentiallyConsistent)
        for index in 1..<40 { _ = try read(store, index * 512) }
        #expect(wait { (1..<40).allSatisfy { store.resident.contains(UInt64($0 * 512 + 199)) } })
        for index in 1..<40 { #expect(window(store, index * 512 + 150) == contents(index * 512 + 150, index % 4 == 3 ? 1 : 0)) }
        #expect(wait { guest.passes.load(ordering: .relaxed) > 2 })
    }

    @Test func theWorkingSetIsWhatTheGuestHasAccessed() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder)
        try fill(store, 512..<612, 0)
        for _ in 0..<20 { store.age() }
        #expect(store.statistics.workingSetPages[0] == 0 && store.statistics.workingSetPages[2] == 100)
        for slot in 520..<530 as Range<UInt64> { store.accessed.set(slot, true) }
        store.age()
        #expect(store.statistics.workingSetPages == [10, 10, 100])
        store.accessed.clear()
        for _ in 0..<5 { store.age() }
        #expect(store.statistics.workingSetPages == [0, 10, 100])
        #expect(store.tiers.withLock { $0.chunks[1].idle } == 5)
    }

    // MARK: A guest that writes meanwhile

    /// Writes to the whole window on another thread, as a guest does: by the kernel, so that a write to an inaccessible page fails.
    private final class Writer: Sendable {
        let written = Atomic<Int>(0)
        let refused = Atomic<Int>(0)
        let isStopping = Atomic<Bool>(false)

        func run(_ store: SwapStore) throws -> Thread {
            let zeroes = try OwnedFileDescriptor.open("/dev/zero", O_RDONLY)
            return try Thread(.command, "writer") { [self] in
                var seed: UInt64 = 1
                while !isStopping.load(ordering: .relaxed) {
                    seed = seed &* 6_364_136_223_846_793_005 &+ 1
                    let offset = Int(seed >> 33) % (store.mapping.byteCount / 4096) * 4096 + 64
                    let count = unsafe Glibc.read(zeroes.rawValue, store.mapping.baseAddress + offset, 8)
                    if count == 8 { written.add(1, ordering: .relaxed) } else { refused.add(1, ordering: .relaxed) }
                }
            }
        }
    }

    @Test(.timeLimit(.minutes(3))) func noPageIsResidentAndUncountedWhileChunksMove() throws {
        let folder = try VirtioTestFolder()
        let store = try makeStore(folder, budget: 48 << 20, byteCount: 64 << 20)
        let guest = Guest()
        let mover = TierMover(store, passSeconds: 0.01) { guest }
        try mover.start()
        let writer = Writer()
        let thread = try writer.run(store)
        var seed: UInt64 = 7
        var most: UInt64 = 48 << 20
        var kinds: [Int: Int] = [:]
        for turn in 0..<4000 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1
            let slot = 1 + Int(seed >> 40) % (16 * 1024 - 1)
            switch seed >> 33 & 7 {
            case 0, 1, 2, 3:
                kinds[slot] = Int(seed >> 36 & 3) % 3
                try write(store, slot, contents(slot, kinds[slot] ?? 0))
            case 4:
                // The writer changes 8 bytes of pages that the guest can reach.
                let (page, kind) = (try read(store, slot), kinds[slot] ?? 2)
                #expect(zip(page, contents(slot, kind)).enumerated().allSatisfy { $1.0 == $1.1 || 64..<72 ~= $0 }, "turn \(turn)")
            case 5: _ = store.bringBack(UInt64(slot))
            case 6:
                let count = min(64, 16 * 1024 - slot)
                for other in slot..<slot + count { kinds[other] = nil }
                try store.discard(at: UInt64(slot) * 4096, byteCount: UInt64(count) * 4096)
            default:
                if turn % 16 == 0 {
                    most = (seed >> 50 & 7) * (8 << 20)
                    #expect(store.setBudget(most))
                }
            }
            guard turn % 50 == 0 else { continue }
            // The window's memory is counted from before it can be there until it is gone: under the lock both are still.
            let (bytes, counted) = try store.tiers.withLock { (try measured(store), $0.memoryByteCount) }
            #expect(bytes <= counted, "turn \(turn)")
        }
        #expect(store.tiers.withLock { tiers in tiers.chunks.allSatisfy { ($0.compressedPages > 0) == ($0.compressed != nil) } })
        #expect(store.setBudget(0))
        #expect(wait { store.residentByteCount == 0 })
        #expect(try measured(store) == 0 && store.compressedBytes.count == 0)
        writer.isStopping.store(true, ordering: .relaxed)
        thread.join()
        mover.stop()
        #expect(writer.written.load(ordering: .relaxed) > 100 && writer.refused.load(ordering: .relaxed) > 100)
        #expect(store.statistics.toFile.load(ordering: .relaxed) > 0)
        for (slot, kind) in kinds {
            let page = try read(store, slot)
            #expect(zip(page, contents(slot, kind)).enumerated().allSatisfy { $1.0 == $1.1 || 64..<72 ~= $0 }, "slot \(slot)")
        }
    }
}
