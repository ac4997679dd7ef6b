// SPDX-License-Identifier: Apache-2.0

/// Decides which chunks of a swap store leave the window's memory, where they go, and when one comes back. Pure: `TierMover` executes it, and a
/// simulation drives it in unit tests.
///
/// A chunk is hot if the guest has accessed many of its pages lately (`heat`), as the accessed bits of the guest's own page tables say. The coldest
/// leave first. They are compressed, which a fault undoes in microseconds; those that do not shrink, and those that nobody has accessed for long, go to
/// the file, as do compressed chunks when they take half of the budget.
enum TierPolicy {
    /// Seconds between two passes of the ageing.
    static let passSeconds = 5.0
    /// A page adds this much to its chunk's heat less the passes since its last access.
    static let heatOfAccessPasses = 8
    /// The same for a single access between two passes.
    static let heatOfAccess = UInt16(heatOfAccessPasses)
    /// The heat of a chunk whose pages were all accessed since the last pass.
    static let mostHeat = UInt16(BudgetStore.chunkPages * heatOfAccessPasses)
    /// Passes without an access after which a chunk goes to the file, compressed or not: two minutes.
    static let coldPasses = 24
    /// Most moves of one plan. The guest gives up its pages of all of them at once.
    static let mostMoves = 64
    /// A chunk comes back in place of a colder one only if the guest has touched as many pages of it lately.
    static let touchesForReturn = 4
    /// A chunk that was accessed in one of this many passes stays while there are older compressed chunks to take instead.
    static let hotPasses = 2

    private static let chunkBytes = UInt64(BudgetStore.chunkBytes)
    /// Budgets from here on have room for the mover's copies.
    private static let leastForCopies = 16 * chunkBytes

    /// A chunk with memory, or with compressed pages.
    struct Chunk: Equatable {
        var index: Int
        var isOpen: Bool
        /// Pages in the window's memory.
        var pages: Int
        var heat: Int
        /// Passes since the last access to a page of it.
        var idle: Int
        /// Bytes of its compressed pages.
        var compressed: Int
        var isIncompressible: Bool
    }

    /// The store.
    struct View: Equatable {
        var budget: UInt64
        /// Bytes of memory that it uses.
        var counted: UInt64
        /// Of those, bytes of compressed pages.
        var compressed: UInt64
        var chunks: [Chunk] = []
    }

    /// One step down.
    enum Move: Equatable {
        /// From the window's memory to compressed pages.
        case compress(Int)
        /// From the window's memory to the file.
        case store(Int)
        /// From compressed pages to the file.
        case spill(Int)
    }

    /// Bytes of a budget that are left to the mover's copies: one chunk. A small budget leaves none, and nothing is compressed.
    static func reserve(_ budget: UInt64) -> UInt64 {
        budget >= leastForCopies ? chunkBytes : 0
    }

    /// Bytes that the store should use: less than the budget, so that pages that the guest writes or touches find room.
    static func target(_ budget: UInt64) -> UInt64 {
        guard budget >= leastForCopies else { return budget }
        let headroom = min(8, budget / leastForCopies) &* chunkBytes
        return budget &- headroom &- reserve(budget)
    }

    /// The moves that bring the store down to its target, coldest first; none when it is there. At most `mostMoves`: the caller asks again.
    static func down(_ view: View) -> [Move] {
        let target = target(view.budget)
        guard view.counted > target else { return [] }
        var needed = Int64(clamping: view.counted &- target)
        var compressed = view.compressed
        let mayCompress = reserve(view.budget) > 0
        var moves: [Move] = []
        var idleOfCompressed = 0
        var open = view.chunks.filter(\.isOpen)
            .sorted { ($0.heat, 255 - $0.idle, $0.index) < ($1.heat, 255 - $1.idle, $1.index) }[...]
        var packed = view.chunks.filter { $0.compressed > 0 && !$0.isOpen }
            .sorted { ($1.idle, $0.index) < ($0.idle, $1.index) }[...]
        while needed > 0, moves.count < mostMoves {
            // Compressed pages are accounted for the budget, too: the oldest leave when they are older than any chunk in memory, or too many.
            if let oldest = packed.first, isFirstToLeave(oldest, open.first, compressed, view.budget, mayCompress) {
                packed.removeFirst()
                moves.append(.spill(oldest.index))
                needed -= Int64(oldest.compressed)
                compressed -= min(compressed, UInt64(oldest.compressed))
                continue
            }
            guard let coldest = open.first else { break }
            // A hot chunk: first compress the others, and look at what that has brought. Then it is their turn to go to the file.
            if coldest.idle < hotPasses, idleOfCompressed > coldest.idle { break }
            open.removeFirst()
            // What a chunk will need is not known before: assume that half of its pages' bytes stay.
            let estimate = UInt64(coldest.pages) &* 2048
            let mayStay = mayCompress && !coldest.isIncompressible && coldest.idle < coldPasses
            let isCompressed = mayStay && compressed &+ estimate <= view.budget / 2
            moves.append(isCompressed ? .compress(coldest.index) : .store(coldest.index))
            needed -= Int64(chunkBytes) - (isCompressed ? Int64(estimate) : 0)
            if isCompressed {
                compressed &+= estimate
                idleOfCompressed = max(idleOfCompressed, coldest.idle)
            }
        }
        return moves
    }

    private static func isFirstToLeave(_ packed: Chunk, _ open: Chunk?, _ compressed: UInt64, _ budget: UInt64, _ mayCompress: Bool)
        -> Bool
    {
        guard let open, mayCompress else { return true }
        return compressed > budget / 2 || packed.idle > open.idle && (packed.idle >= coldPasses || open.idle < hotPasses)
    }

    /// Whether a chunk comes back to the window's memory as a whole.
    ///
    /// - Parameters:
    ///   - heat: its own; each touch of a page adds `heatOfAccess`.
    ///   - coldest: heat of the coldest chunk in memory; nil if there is none.
    ///   - counted: bytes of memory that the store uses.
    ///   - budget: the store's budget.
    static func returns(heat: Int, coldest: Int?, counted: UInt64, budget: UInt64) -> Bool {
        guard counted &+ chunkBytes > target(budget) else { return true }
        // Another chunk has to leave for it.
        guard counted &+ chunkBytes &+ reserve(budget) <= budget else { return false }
        guard let coldest else { return true }
        return heat >= touchesForReturn * Int(heatOfAccess) || heat > coldest
    }
}
