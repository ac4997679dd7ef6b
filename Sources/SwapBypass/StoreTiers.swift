// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

/// 2 MiB of a swap store with a budget: its memory in the window, and where its slots' pages are.
struct StoreChunk {
    /// Memory in the window. It counts from before the guest can access it until it is inaccessible *and* freed.
    enum State {
        /// Inaccessible; no memory, not counted.
        case absent
        /// Accessible: the guest can write to all of it.
        case open
        /// Accessible, but its slots are no longer resident, so that the guest maps none of them any more.
        case leaving
        /// The guest can only read, and the mover copies the pages.
        case copying
        /// Inaccessible, but madvise(2) failed to free its memory: counted until it succeeds, or until a slot is written again.
        case closed
    }

    var state = State.absent
    /// A thread reads its memory or its compressed pages, or writes its slots to the file, without the lock: no other writes them to the file, and
    /// the memory stays readable.
    var isBusy = false
    /// Its pages were hardly shorter when they were compressed: move it to the file.
    var isIncompressible = false
    /// Passes of the ageing since the guest accessed a page of it, saturating.
    var idle: UInt8 = 0
    /// How much the guest uses it: the sum over its pages of 8 less the passes since the last access.
    var heat: UInt16 = 0
    /// Threads that write slots to the file now.
    var fileWriters: UInt16 = 0
    /// Counts moves, so that a move that was cancelled does not end another one.
    var move: UInt32 = 0
    /// Counts writes of slots to the file.
    var fileVersion: UInt32 = 0
    /// Slots in the window's memory, in the file, and compressed.
    var memoryPages: UInt16 = 0
    var filePages: UInt16 = 0
    var compressedPages: UInt16 = 0
    var compressed: CompressedChunk?
}

/// What the store's lock protects.
struct StoreTiers: ~Copyable {
    var budget: UInt64 { didSet { keepReserve() } }
    /// Bytes of the budget that are left to the mover's copies.
    private(set) var reserve: UInt64 = 0
    var hasMover = false { didSet { keepReserve() } }
    var chunks: [StoreChunk]
    /// Bytes of the chunks' memory.
    var memoryByteCount: UInt64 = 0
    /// Pages by place (`SlotPlace`).
    private(set) var pages = [UInt64](repeating: 0, count: 5)
    private let places: SlotBytes
    /// Passes of the ageing since the guest accessed a slot, saturating.
    let idle: SlotBytes

    init(budget: UInt64, pageCount: Int) throws(VMMError) {
        let places = try SlotBytes(count: pageCount)
        let idle = try SlotBytes(count: pageCount)
        self.budget = budget
        chunks = [StoreChunk](repeating: StoreChunk(), count: (pageCount + BudgetStore.chunkPages - 1) / BudgetStore.chunkPages)
        self.places = places
        self.idle = idle
    }

    private mutating func keepReserve() {
        reserve = hasMover ? TierPolicy.reserve(budget) : 0
    }

    func place(_ slot: Int) -> SlotPlace { SlotPlace(rawValue: places[slot]) ?? .none }

    func slots(of index: Int) -> Range<Int> {
        let first = index * BudgetStore.chunkPages
        return first..<min(first + BudgetStore.chunkPages, places.count)
    }

    /// The slots of a chunk that are in a place.
    func slots(of index: Int, in place: SlotPlace) -> [Int] {
        slots(of: index).filter { places[$0] == place.rawValue }
    }

    /// Records where a slot's page is now. A chunk without compressed pages gives up their memory.
    mutating func setPlace(_ slot: Int, _ place: SlotPlace) {
        let old = self.place(slot)
        guard old != place, slot >= 0, slot < places.count else { return }
        let index = slot / BudgetStore.chunkPages
        places[slot] = place.rawValue
        if old != .none { pages[Int(old.rawValue)] &-= 1 }
        if place != .none { pages[Int(place.rawValue)] &+= 1 }
        switch old {
        case .memory: chunks[index].memoryPages &-= 1
        case .file: chunks[index].filePages &-= 1
        case .compressed: chunks[index].compressedPages &-= 1
        case .none, .zero: break
        }
        switch place {
        case .memory: chunks[index].memoryPages &+= 1
        case .file: chunks[index].filePages &+= 1
        case .compressed: chunks[index].compressedPages &+= 1
        case .none, .zero: break
        }
        if old == .compressed, chunks[index].compressedPages == 0 { chunks[index].compressed = nil }
    }

    /// The guest has used a slot.
    mutating func use(_ slot: Int) {
        idle[slot] = 0
        let index = slot / BudgetStore.chunkPages
        chunks[index].idle = 0
        chunks[index].heat = min(chunks[index].heat + TierPolicy.heatOfAccess, TierPolicy.mostHeat)
    }
}
