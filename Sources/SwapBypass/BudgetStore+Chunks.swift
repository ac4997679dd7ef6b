// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SymVMM
internal import VMMBase

/// Opening and closing chunks, under the store's lock.
extension BudgetStore {
    /// Bytes of memory that the store counts.
    func counted(_ tiers: borrowing StoreTiers) -> UInt64 {
        tiers.memoryByteCount &+ compressedBytes.count
    }

    /// Whether the budget allows one more chunk.
    func hasRoom(_ tiers: borrowing StoreTiers) -> Bool {
        let needed = counted(tiers).addingReportingOverflow(UInt64(BudgetStore.chunkBytes) &+ tiers.reserve)
        return !needed.overflow && needed.partialValue <= tiers.budget
    }

    /// Makes a chunk accessible.
    ///
    /// - Returns: false when the budget or mprotect(2) does not allow it. The caller then calls `closeIfEmpty(_:_:)` or `forget(_:_:)`, which make a
    ///   partly accessible chunk inaccessible again.
    func open(_ index: Int, _ tiers: inout StoreTiers) -> Bool {
        switch tiers.chunks[index].state {
        case .open: return true
        case .leaving, .copying: return keep(index, &tiers)
        case .absent:
            guard hasRoom(tiers) else {
                work.update { $0.needsRoom = true }
                return false
            }
            tiers.memoryByteCount &+= UInt64(BudgetStore.chunkBytes)
            if counted(tiers) &+ tiers.reserve > TierPolicy.target(tiers.budget) { work.update { $0.needsRoom = true } }
        case .closed: break
        }
        tiers.chunks[index].state = .open
        return protect(index, PROT_READ | PROT_WRITE)
    }

    /// A slot's page is in the window's memory now, and the guest may map it.
    func keepInMemory(_ slot: Int, _ tiers: inout StoreTiers) {
        tiers.setPlace(slot, .memory)
        resident.set(UInt64(slot), true)
    }

    /// Removes a slot's page from all tiers; frees the chunk's memory when it was the last one there.
    func forget(_ slot: Int, _ tiers: inout StoreTiers) {
        resident.set(UInt64(slot), false)
        tiers.setPlace(slot, .none)
        closeIfEmpty(slot / BudgetStore.chunkPages, &tiers)
    }

    /// Frees a chunk's memory when no slot is there. While the mover copies from it, the mover does that.
    func closeIfEmpty(_ index: Int, _ tiers: inout StoreTiers) {
        let chunk = tiers.chunks[index]
        guard !chunk.isBusy else { return }
        switch chunk.state {
        case .absent, .leaving, .copying: return
        case .closed: break
        case .open:
            guard chunk.memoryPages == 0 else { return }
            guard close(index, &tiers) else { return }
        }
        release(index, &tiers)
    }

    /// Makes a chunk inaccessible. If mprotect(2) fails, it stays accessible and counted, and the next slot that it loses tries again.
    func close(_ index: Int, _ tiers: inout StoreTiers) -> Bool {
        guard protect(index, PROT_NONE) else { return false }
        tiers.chunks[index].state = .closed
        return true
    }

    /// Frees the memory of a closed chunk. First inaccessible, then freed: a guest that writes in between faults. In the other order it would allocate
    /// memory that the store does not count.
    func release(_ index: Int, _ tiers: inout StoreTiers) {
        let (offset, bytes) = extent(index)
        // SAFETY: the chunk lies in the mapping, and no slot in it is in its memory.
        guard unsafe madvise(mapping.baseAddress + offset, bytes, MADV_DONTNEED) == 0 else { return }
        tiers.chunks[index].state = .absent
        tiers.memoryByteCount &-= UInt64(BudgetStore.chunkBytes)
    }

    /// The guest uses a chunk that is on its way out: it stays. Not if the store uses more than its budget: a guest could keep its memory by touching
    /// it. True for a chunk that is open.
    func keep(_ index: Int, _ tiers: inout StoreTiers) -> Bool {
        guard tiers.chunks[index].state == .open || counted(tiers) <= tiers.budget else { return false }
        return cancelMove(index, &tiers)
    }

    /// Ends a move before it is complete: the chunk is open, and its slots are resident again. True for a chunk that is open.
    func cancelMove(_ index: Int, _ tiers: inout StoreTiers) -> Bool {
        switch tiers.chunks[index].state {
        case .open: return true
        case .absent, .closed: return false
        case .leaving: break
        case .copying:
            // Writable again before the guest may map it. The mover goes on reading, and finds the move cancelled.
            guard protect(index, PROT_READ | PROT_WRITE) else { return false }
        }
        tiers.chunks[index].state = .open
        tiers.chunks[index].move &+= 1
        for slot in tiers.slots(of: index) where tiers.place(slot) == .memory { resident.set(UInt64(slot), true) }
        statistics.cancelledMoves.add()
        return true
    }

    func protect(_ index: Int, _ protection: Int32) -> Bool {
        let (offset, bytes) = extent(index)
        // SAFETY: the chunk lies in the mapping. Threads that access it hold the lock, as this one does; the mover reads a busy chunk without it,
        // which no caller makes unreadable.
        return unsafe mprotect(mapping.baseAddress + offset, bytes, protection) == 0
    }

    func extent(_ index: Int) -> (offset: Int, byteCount: Int) {
        let offset = index * BudgetStore.chunkBytes
        return (offset, min(BudgetStore.chunkBytes, mapping.byteCount - offset))
    }

    /// Asks the mover to bring a chunk's pages back.
    func request(_ index: Int) {
        work.update { work in
            guard work.chunks.count < TierWork.mostChunks, !work.chunks.contains(index) else { return }
            work.chunks.append(index)
        }
    }
}
