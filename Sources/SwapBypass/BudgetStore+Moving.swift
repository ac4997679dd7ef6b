// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import SymVMM
internal import VMMBase

/// Moving pages between the tiers: up on a vCPU's thread (`bringBack(_:)`) and the mover's, down on the mover's thread only.
extension BudgetStore {
    /// Pages that come back inside a fault: an aligned block around the faulting page. The mover brings the rest of the chunk.
    private static let blockPages = 64
    /// Pages of one request to the file.
    private static let runPages = 64

    // MARK: Up

    /// The guest has touched a slot that it does not map. Any thread; a vCPU's waits for at most a block.
    ///
    /// - Returns: whether the guest may map the slot now. If not, it reads it from the disk.
    func bringBackSlot(_ slot: UInt64) -> Bool {
        guard slot < byteCount / GuestMemory.pageSize else { return false }
        let slot = Int(slot)
        let index = slot / BudgetStore.chunkPages
        let began = TickClock.monotonicNanoseconds()
        return tiers.withLock { tiers in
            tiers.use(slot)
            switch tiers.place(slot) {
            case .none: return false
            case .memory:
                // A chunk that was to leave is in use again.
                guard keep(index, &tiers) else { return false }
                statistics.memory.record(since: began)
                return true
            case .zero:
                guard keep(index, &tiers) else { return false }
                return bringBack(slot..<slot + 1, &tiers)
            case .compressed:
                guard open(index, &tiers) else {
                    closeIfEmpty(index, &tiers)
                    statistics.noRoom.add()
                    return false
                }
                let block = slot / BudgetStore.blockPages * BudgetStore.blockPages
                guard bringBack(block..<min(block + BudgetStore.blockPages, tiers.slots(of: index).upperBound), &tiers) else {
                    closeIfEmpty(index, &tiers)
                    return false
                }
                statistics.compressed.record(since: began)
                if tiers.chunks[index].compressedPages > 0 || tiers.chunks[index].filePages > 0 { request(index) }
                return true
            case .file:
                request(index)
                return false
            }
        }
    }

    /// Decompresses the compressed pages of a range, and clears the zero pages, in an open chunk. False when the host has no memory.
    private func bringBack(_ slots: Range<Int>, _ tiers: inout StoreTiers) -> Bool {
        guard let first = slots.first else { return true }
        let index = first / BudgetStore.chunkPages
        guard MemoryStore.populate(mapping, first * BudgetStore.pageBytes, slots.count * BudgetStore.pageBytes) else { return false }
        for slot in slots {
            // SAFETY: the chunk is open while this thread has the lock, and the page has memory.
            let page = unsafe mapping.baseAddress + slot * BudgetStore.pageBytes
            switch tiers.place(slot) {
            case .zero:
                _ = unsafe memset(page, 0, BudgetStore.pageBytes)
            case .compressed:
                guard let compressed = tiers.chunks[index].compressed else { return false }
                guard unsafe compressed.read(slot % BudgetStore.chunkPages, into: page) else { return false }
                statistics.decompressed.add()
            case .none, .memory, .file: continue
            }
            keepInMemory(slot, &tiers)
        }
        return true
    }

    /// Brings all compressed pages of an open chunk back. The mover's thread.
    func complete(_ index: Int) {
        var first = index * BudgetStore.chunkPages
        var hasMore = true
        while hasMore {
            hasMore = tiers.withLock { tiers in
                let end = tiers.slots(of: index).upperBound
                guard tiers.chunks[index].state == .open, tiers.chunks[index].compressedPages > 0, first < end else { return false }
                let block = first..<min(first + BudgetStore.blockPages, end)
                guard block.contains(where: { tiers.place($0) == .compressed }) else { return true }
                return bringBack(block, &tiers)
            }
            first += BudgetStore.blockPages
        }
    }

    /// Brings a chunk's pages back from the file, and its compressed ones. The mover's thread.
    func bringBackChunk(_ index: Int) {
        let slots = tiers.withLock { tiers -> [Int] in
            guard tiers.chunks.indices.contains(index), tiers.chunks[index].filePages > 0 || tiers.chunks[index].compressedPages > 0 else {
                return []
            }
            guard open(index, &tiers) else {
                closeIfEmpty(index, &tiers)
                statistics.noRoom.add()
                return []
            }
            tiers.chunks[index].isBusy = true
            return tiers.slots(of: index, in: .file)
        }
        complete(index)
        for run in BudgetStore.runs(slots) where !bringBackRun(run, index) { break }
        tiers.withLock { tiers in
            tiers.chunks[index].isBusy = false
            closeIfEmpty(index, &tiers)
        }
    }

    /// Reads a run of slots from the file. False ends the chunk's return: the host has no memory, or the file cannot be read.
    private func bringBackRun(_ run: Range<Int>, _ index: Int) -> Bool {
        let version = tiers.withLock { $0.chunks[index].fileWriters == 0 ? $0.chunks[index].fileVersion : nil }
        guard let version else { return false }
        let bytes = run.count * BudgetStore.pageBytes
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: BudgetStore.pageBytes)
        // SAFETY: here and below, the buffer lives until the function returns, and has a page for each slot of the run.
        defer { unsafe buffer.deallocate() }
        guard let pages = buffer.baseAddress else { return false }
        do throws(StorageError) {
            try unsafe file.read(into: buffer, at: run.lowerBound * BudgetStore.pageBytes)
        } catch {
            return false
        }
        return tiers.withLock { tiers in
            let chunk = tiers.chunks[index]
            // Another thread has written slots to the file meanwhile: what was read may be neither old nor new.
            guard chunk.state == .open, chunk.fileWriters == 0, chunk.fileVersion == version else { return false }
            guard MemoryStore.populate(mapping, run.lowerBound * BudgetStore.pageBytes, bytes) else { return false }
            for slot in run where tiers.place(slot) == .file {
                // SAFETY: the chunk is open while this thread has the lock, and the page has memory.
                unsafe (mapping.baseAddress + slot * BudgetStore.pageBytes)
                    .copyMemory(from: pages + (slot - run.lowerBound) * BudgetStore.pageBytes, byteCount: BudgetStore.pageBytes)
                keepInMemory(slot, &tiers)
                statistics.returned.add()
            }
            return true
        }
    }

    // MARK: Down

    /// A chunk that is on its way out of the window's memory.
    struct Move {
        let index: Int
        let toFile: Bool
        let number: UInt32
    }

    /// Starts a move: from now on the guest maps none of the chunk's slots. Nil when the chunk is not open. The caller then makes the guest give up
    /// those that it has mapped (SWAP_EVICT), and calls `finish(_:)` or `abandon(_:)`.
    func begin(_ index: Int, toFile: Bool) -> Move? {
        complete(index)
        return tiers.withLock { tiers in
            let chunk = tiers.chunks[index]
            guard chunk.state == .open, !chunk.isBusy, chunk.compressedPages == 0 else { return nil }
            tiers.chunks[index].state = .leaving
            tiers.chunks[index].move &+= 1
            // Pairs with the barrier in the module's map_entries(): it publishes the owner, then reads the bit again.
            for slot in tiers.slots(of: index) { resident.set(UInt64(slot), false) }
            return Move(index: index, toFile: toFile, number: tiers.chunks[index].move)
        }
    }

    /// The guest did not give up its pages: they stay.
    func abandon(_ move: Move) {
        tiers.withLock { tiers in
            guard tiers.chunks[move.index].move == move.number else { return }
            _ = cancelMove(move.index, &tiers)
            closeIfEmpty(move.index, &tiers)
        }
    }

    /// Copies the pages of a chunk that the guest no longer maps, and frees its memory. False when the move was cancelled, or failed.
    func finish(_ move: Move) -> Bool {
        let slots = tiers.withLock { tiers -> [Int]? in
            guard tiers.chunks[move.index].state == .leaving, tiers.chunks[move.index].move == move.number else { return nil }
            // The guest can change no page that is being copied: if it tries, its VM ends.
            guard protect(move.index, PROT_READ) else {
                _ = cancelMove(move.index, &tiers)
                return nil
            }
            tiers.chunks[move.index].state = .copying
            tiers.chunks[move.index].isBusy = true
            return tiers.slots(of: move.index, in: .memory)
        }
        guard let slots else { return false }
        let zeroes = Set(slots.filter { isZeroInMemory($0) })
        let pages = slots.filter { !zeroes.contains($0) }
        var compressed: CompressedChunk?
        var isWritten = false
        if !move.toFile { compressed = compress(pages, of: move.index) }
        if compressed == nil, !pages.isEmpty {
            isWritten = writeToFile(pages)
            guard isWritten else {
                tiers.withLock { tiers in
                    tiers.chunks[move.index].isBusy = false
                    if tiers.chunks[move.index].move == move.number { _ = cancelMove(move.index, &tiers) }
                    closeIfEmpty(move.index, &tiers)
                }
                return false
            }
        }
        return tiers.withLock { tiers in
            tiers.chunks[move.index].isBusy = false
            defer { closeIfEmpty(move.index, &tiers) }
            guard tiers.chunks[move.index].state == .copying, tiers.chunks[move.index].move == move.number else { return false }
            guard close(move.index, &tiers) else {
                _ = cancelMove(move.index, &tiers)
                return false
            }
            tiers.chunks[move.index].compressed = compressed
            // The guest may have discarded some meanwhile.
            for slot in slots where tiers.place(slot) == .memory {
                tiers.setPlace(slot, zeroes.contains(slot) ? .zero : compressed != nil ? .compressed : .file)
            }
            if tiers.chunks[move.index].compressedPages == 0 { tiers.chunks[move.index].compressed = nil }
            if !move.toFile { tiers.chunks[move.index].isIncompressible = compressed == nil && !pages.isEmpty }
            if compressed != nil { statistics.toCompressed.add(UInt64(pages.count)) } else { statistics.toFile.add(UInt64(pages.count)) }
            return true
        }
    }

    /// Whether a page of a busy chunk is zero.
    private func isZeroInMemory(_ slot: Int) -> Bool {
        // SAFETY: a busy chunk stays readable, and the slot lies in it.
        unsafe BudgetStore.isZero(
            UnsafeRawBufferPointer(start: mapping.baseAddress + slot * BudgetStore.pageBytes, count: BudgetStore.pageBytes))
    }

    /// Compresses pages of a busy chunk; nil when that does not save enough, or the host has no memory.
    private func compress(_ slots: [Int], of index: Int) -> CompressedChunk? {
        guard !slots.isEmpty, var builder = try? CompressedChunk.Builder(compressedBytes) else { return nil }
        for (number, slot) in slots.enumerated() {
            // SAFETY: a busy chunk stays readable, and the slot lies in it.
            let isAdded = unsafe builder.append(
                slot % BudgetStore.chunkPages, UnsafeRawPointer(mapping.baseAddress + slot * BudgetStore.pageBytes))
            // Looks at the first pages before it compresses all.
            guard isAdded, number % 32 != 31 || builder.isWorthwhile else {
                builder.cancel()
                return nil
            }
        }
        guard builder.isWorthwhile else {
            builder.cancel()
            return nil
        }
        return builder.finish()
    }

    /// Writes pages of a busy chunk to the file.
    private func writeToFile(_ slots: [Int]) -> Bool {
        for run in BudgetStore.runs(slots) {
            // SAFETY: a busy chunk stays readable, and the run lies in it.
            let pages = unsafe UnsafeRawBufferPointer(
                start: mapping.baseAddress + run.lowerBound * BudgetStore.pageBytes, count: run.count * BudgetStore.pageBytes)
            do throws(StorageError) {
                try unsafe file.write(from: pages, at: run.lowerBound * BudgetStore.pageBytes)
            } catch {
                return false
            }
        }
        return true
    }

    /// Moves a chunk's compressed pages to the file. The mover's thread.
    func spill(_ index: Int) -> Bool {
        let found = tiers.withLock { tiers -> (compressed: CompressedChunk, slots: [Int])? in
            guard let compressed = tiers.chunks[index].compressed, !tiers.chunks[index].isBusy else { return nil }
            tiers.chunks[index].isBusy = true
            return (compressed, tiers.slots(of: index, in: .compressed))
        }
        guard let found else { return false }
        let isWritten = BudgetStore.runs(found.slots).allSatisfy { spill($0, of: found.compressed) }
        return tiers.withLock { tiers in
            tiers.chunks[index].isBusy = false
            defer { closeIfEmpty(index, &tiers) }
            // The pages may have come back meanwhile, and others may be compressed.
            guard isWritten, tiers.chunks[index].compressed === found.compressed else { return false }
            for slot in found.slots where tiers.place(slot) == .compressed {
                tiers.setPlace(slot, .file)
                statistics.toFile.add()
            }
            return true
        }
    }

    private func spill(_ run: Range<Int>, of compressed: CompressedChunk) -> Bool {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: run.count * BudgetStore.pageBytes, alignment: BudgetStore.pageBytes)
        // SAFETY: the buffer lives until the function returns, and has a page for each slot of the run.
        defer { unsafe buffer.deallocate() }
        guard let start = buffer.baseAddress else { return false }
        for slot in run {
            let page = unsafe start + (slot - run.lowerBound) * BudgetStore.pageBytes
            guard unsafe compressed.read(slot % BudgetStore.chunkPages, into: page) else { return false }
        }
        do throws(StorageError) {
            try unsafe file.write(from: UnsafeRawBufferPointer(buffer), at: run.lowerBound * BudgetStore.pageBytes)
            return true
        } catch {
            return false
        }
    }

    /// Slots in ascending order as runs of neighbours, of at most `runPages`.
    static func runs(_ slots: [Int]) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        for slot in slots {
            if let last = runs.last, last.upperBound == slot, last.count < runPages {
                runs[runs.count - 1] = last.lowerBound..<slot + 1
            } else {
                runs.append(slot..<slot + 1)
            }
        }
        return runs
    }

    // MARK: What the policy looks at

    /// From now on a mover works: leaves room for its copies.
    func keepReserve() {
        tiers.withLock { $0.hasMover = true }
        work.update { $0.needsRoom = true }
    }

    /// Whether the policy brings a chunk back.
    func returns(_ index: Int) -> Bool {
        tiers.withLock { tiers in
            guard tiers.chunks.indices.contains(index) else { return false }
            let chunk = tiers.chunks[index]
            guard chunk.compressedPages > 0 || chunk.filePages > 0 else { return false }
            if chunk.state == .open { return true }
            let coldest = tiers.chunks.lazy.filter { $0.state == .open }.map { Int($0.heat) }.min()
            return TierPolicy.returns(heat: Int(chunk.heat), coldest: coldest, counted: counted(tiers), budget: tiers.budget)
        }
    }

    /// What the policy needs to know of the store.
    var view: TierPolicy.View {
        tiers.withLock { tiers in
            var view = TierPolicy.View(budget: tiers.budget, counted: counted(tiers), compressed: compressedBytes.count)
            for (index, chunk) in tiers.chunks.enumerated() where chunk.state == .open && !chunk.isBusy || chunk.compressedPages > 0 {
                view.chunks.append(
                    TierPolicy.Chunk(
                        index: index, isOpen: chunk.state == .open, pages: Int(chunk.memoryPages), heat: Int(chunk.heat),
                        idle: Int(chunk.idle),
                        compressed: chunk.compressed?.byteCount ?? 0, isIncompressible: chunk.isIncompressible))
            }
            return view
        }
    }

    /// Takes over what the guest has accessed since the last pass, and counts the working set.
    func age() {
        var histogram = [UInt64](repeating: 0, count: 256)
        let count = tiers.withLock { $0.chunks.count }
        for index in 0..<count {
            tiers.withLock { tiers in
                let (slots, chunk) = (tiers.slots(of: index), tiers.chunks[index])
                guard chunk.state != .absent || chunk.filePages > 0 || chunk.compressedPages > 0 else { return }
                var (heat, least) = (0, 255)
                for slot in slots {
                    let place = tiers.place(slot)
                    guard place != .none else { continue }
                    let idle = accessed.contains(UInt64(slot)) ? 0 : min(Int(tiers.idle[slot]) + 1, 255)
                    tiers.idle[slot] = UInt8(idle)
                    histogram[idle] &+= 1
                    guard place == .memory || place == .compressed else { continue }
                    heat += max(0, TierPolicy.heatOfAccessPasses - idle)
                    least = min(least, idle)
                }
                tiers.chunks[index].heat = UInt16(min(heat, Int(TierPolicy.mostHeat)))
                tiers.chunks[index].idle = UInt8(least)
            }
        }
        statistics.recordWorkingSet(histogram)
    }
}
