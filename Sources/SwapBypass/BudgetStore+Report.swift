// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import SymVMM
internal import VMMModel

extension BudgetStore {
    var counters: [(name: String, value: UInt64)] {
        let (pages, memory) = tiers.withLock { ($0.pages, $0.memoryByteCount) }
        func bytes(_ place: SlotPlace) -> UInt64 { pages[Int(place.rawValue)] &* GuestMemory.pageSize }
        let workingSet = zip(TierStatistics.workingSetSeconds, statistics.workingSetPages)
            .map { ("working_set_\($0)s_bytes", $1 &* GuestMemory.pageSize) }
        return [
            // Memory of the tiers, then the pages in them.
            ("tier_memory_chunks_bytes", memory), ("tier_compressed_memory_bytes", compressedBytes.count),
            ("tier_memory_bytes", bytes(.memory)), ("tier_compressed_bytes", bytes(.compressed)), ("tier_file_bytes", bytes(.file)),
            ("tier_zero_bytes", bytes(.zero)),
            ("tier_memory_hits", statistics.memory.hits), ("tier_compressed_hits", statistics.compressed.hits),
            ("tier_file_hits", statistics.file.hits),
            ("pages_compressed", statistics.toCompressed.load(ordering: .relaxed)),
            ("pages_decompressed", statistics.decompressed.load(ordering: .relaxed)),
            ("pages_to_file", statistics.toFile.load(ordering: .relaxed)),
            ("pages_from_file", statistics.returned.load(ordering: .relaxed)),
            ("pages_written_to_file", statistics.writtenToFile.load(ordering: .relaxed)),
            ("moves_cancelled", statistics.cancelledMoves.load(ordering: .relaxed)),
            ("moves_refused", statistics.refusedMoves.load(ordering: .relaxed)),
            ("declined_no_room", statistics.noRoom.load(ordering: .relaxed)),
            ("ageing_passes", statistics.passes.load(ordering: .relaxed)),
        ] + workingSet
    }

    var report: SwapTiers {
        let (pages, memory, budget) = tiers.withLock { ($0.pages, $0.memoryByteCount, $0.budget) }
        func tier(_ name: String, _ place: SlotPlace, _ memory: UInt64, _ hits: TierHits?, _ moved: UInt64) -> SwapTiers.Tier {
            let latency = hits?.latency ?? .empty
            return SwapTiers.Tier(
                name: name, pageBytes: pages[Int(place.rawValue)] &* GuestMemory.pageSize, memoryBytes: memory, hits: hits?.hits ?? 0,
                movedPages: moved, p50: latency.quantile(0.5), p99: latency.quantile(0.99))
        }
        let compressed = compressedBytes.count
        let compressedPages = pages[Int(SlotPlace.compressed.rawValue)] &* GuestMemory.pageSize
        return SwapTiers(
            budget: budget, counted: memory &+ compressed,
            ratio: compressed == 0 ? nil : Double(compressedPages) / Double(compressed),
            tiers: [
                tier(
                    "memory", .memory, memory, statistics.memory,
                    statistics.decompressed.load(ordering: .relaxed) &+ statistics.returned.load(ordering: .relaxed)),
                tier("compressed", .compressed, compressed, statistics.compressed, statistics.toCompressed.load(ordering: .relaxed)),
                tier("file", .file, 0, statistics.file, statistics.toFile.load(ordering: .relaxed)),
                tier("zero", .zero, 0, nil, 0),
            ],
            workingSet: zip(TierStatistics.workingSetSeconds, statistics.workingSetPages).map {
                SwapTiers.WorkingSet(seconds: $0, bytes: $1 &* GuestMemory.pageSize)
            })
    }
}
