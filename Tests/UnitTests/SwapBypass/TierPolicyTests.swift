// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SwapBypass
@testable import VMMModel

/// What leaves the window's memory, and where it goes.
@Suite struct TierPolicyTests {
    private static let chunk = UInt64(BudgetStore.chunkBytes)

    private func open(_ index: Int, heat: Int, idle: Int = 0, pages: Int = 512, isIncompressible: Bool = false) -> TierPolicy.Chunk {
        TierPolicy.Chunk(
            index: index, isOpen: true, pages: pages, heat: heat, idle: idle, compressed: 0, isIncompressible: isIncompressible)
    }

    private func packed(_ index: Int, idle: Int, bytes: Int = 1 << 20) -> TierPolicy.Chunk {
        TierPolicy.Chunk(index: index, isOpen: false, pages: 0, heat: 0, idle: idle, compressed: bytes, isIncompressible: false)
    }

    private func view(_ budget: UInt64, _ chunks: [TierPolicy.Chunk]) -> TierPolicy.View {
        let compressed = chunks.reduce(0) { $0 + UInt64($1.compressed) }
        let memory = UInt64(chunks.count { $0.isOpen }) * TierPolicyTests.chunk
        return TierPolicy.View(budget: budget, counted: memory + compressed, compressed: compressed, chunks: chunks)
    }

    @Test func aSmallBudgetIsUsedWholeAndALargeOneLeavesRoom() {
        #expect(TierPolicy.target(0) == 0 && TierPolicy.reserve(0) == 0)
        #expect(TierPolicy.target(4 << 20) == 4 << 20 && TierPolicy.reserve(4 << 20) == 0)
        for budget in stride(from: UInt64(32 << 20), to: 2 << 30, by: 7 << 20) {
            #expect(TierPolicy.target(budget) + TierPolicy.reserve(budget) + TierPolicy.chunk(1) <= budget)
            #expect(TierPolicy.target(budget) >= budget / 4 * 3)
        }
        #expect(TierPolicy.target(.max) > .max / 2)
    }

    @Test func nothingMovesBelowTheTarget() {
        #expect(TierPolicy.down(view(1 << 30, [open(0, heat: 0), packed(1, idle: 200)])) == [])
        #expect(TierPolicy.down(view(0, [])) == [])
    }

    @Test func theColdestLeaveFirstAndNoMoreThanNeeded() {
        let chunks = (0..<64).map { open($0, heat: 100 * (($0 * 37) % 64) + 1) }
        let plan = TierPolicy.down(view(96 << 20, chunks))
        let target = TierPolicy.target(96 << 20)
        // Half of a chunk's bytes are expected to stay.
        let needed = Int((128 << 20) - target + (1 << 20) - 1) >> 20
        #expect(plan.count == needed)
        let byHeat = chunks.sorted { $0.heat < $1.heat }.prefix(needed).map { TierPolicy.Move.compress($0.index) }
        #expect(plan == byHeat)
    }

    @Test func whatDoesNotShrinkAndWhatIsLongColdGoesToTheFile() {
        var chunks = (0..<32).map { open($0, heat: 500 + $0) }
        chunks[3] = open(3, heat: 0, isIncompressible: true)
        chunks[5] = open(5, heat: 1, idle: TierPolicy.coldPasses)
        chunks[7] = open(7, heat: 2, idle: 1)
        #expect(Array(TierPolicy.down(view(60 << 20, chunks)).prefix(3)) == [.store(3), .store(5), .compress(7)])
        // A small budget has no room for copies.
        #expect(TierPolicy.down(view(4 << 20, [open(0, heat: 9), open(1, heat: 3), open(2, heat: 4)])) == [.store(1)])
    }

    @Test func compressedPagesLeaveWhenTheyAreOldOrTooMany() {
        let hot = (0..<20).map { open($0, heat: 4000) }
        let old = TierPolicy.down(view(44 << 20, hot + [packed(30, idle: 30), packed(31, idle: 60), packed(32, idle: 2)]))
        #expect(Array(old.prefix(2)) == [.spill(31), .spill(30)])
        // Compressed pages have more than half of the budget.
        let many = TierPolicy.down(view(40 << 20, (0..<10).map { open($0, heat: 10) } + (20..<45).map { packed($0, idle: $0 - 20) }))
        #expect(many.first == .spill(44))
        // Without a chunk in memory they are all there is.
        #expect(TierPolicy.down(view(0, [packed(1, idle: 1), packed(2, idle: 5)])) == [.spill(2), .spill(1)])
    }

    @Test func aBudgetOfZeroEmptiesTheMemory() {
        let chunks = (0..<200).map { open($0, heat: $0) }
        let plan = TierPolicy.down(view(0, chunks))
        #expect(plan.count == TierPolicy.mostMoves)
        #expect(plan.allSatisfy { if case .store = $0 { true } else { false } })
    }

    @Test func chunksComeBackWhereThereIsRoom() {
        let budget: UInt64 = 64 << 20
        let target = TierPolicy.target(budget)
        // Below the target there is room for all.
        #expect(TierPolicy.returns(heat: 0, coldest: 4000, counted: target - TierPolicyTests.chunk, budget: budget))
        // Above it a colder one will leave.
        #expect(TierPolicy.returns(heat: 9, coldest: 8, counted: target, budget: budget))
        #expect(!TierPolicy.returns(heat: 8, coldest: 9, counted: target, budget: budget))
        let some = TierPolicy.touchesForReturn * Int(TierPolicy.heatOfAccess)
        #expect(TierPolicy.returns(heat: some, coldest: 4000, counted: target, budget: budget))
        #expect(TierPolicy.returns(heat: 0, coldest: nil, counted: target, budget: budget))
        #expect(!TierPolicy.returns(heat: 4000, coldest: 0, counted: budget - TierPolicyTests.chunk, budget: budget))
    }

    // MARK: Simulation

    /// A store without pages: chunks and what the guest touches in each pass.
    private struct Simulation {
        let budget: UInt64
        var chunks: [TierPolicy.Chunk]
        var inFile: Set<Int> = []
        var faults = 0

        init(chunkCount: Int, budget: UInt64) {
            self.budget = budget
            chunks = (0..<chunkCount).map {
                TierPolicy.Chunk(index: $0, isOpen: true, pages: 512, heat: 0, idle: 0, compressed: 0, isIncompressible: $0 % 7 == 0)
            }
        }

        var view: TierPolicy.View {
            let present = chunks.filter { $0.isOpen || $0.compressed > 0 }
            let compressed = present.reduce(0) { $0 + UInt64($1.compressed) }
            let memory = UInt64(present.count { $0.isOpen }) * UInt64(BudgetStore.chunkBytes)
            return TierPolicy.View(budget: budget, counted: memory + compressed, compressed: compressed, chunks: present)
        }

        /// One pass: the guest touches pages of chunks, chunks come back, others leave.
        mutating func pass(_ touched: [Int: Int]) {
            for index in chunks.indices {
                let pages = touched[index] ?? 0
                chunks[index].heat = min(chunks[index].heat * 3 / 4 + pages * TierPolicy.heatOfAccessPasses, Int(TierPolicy.mostHeat))
                chunks[index].idle = pages > 0 ? 0 : min(chunks[index].idle + 1, 255)
                guard pages > 0, !chunks[index].isOpen else { continue }
                faults += 1
                let coldest = chunks.filter(\.isOpen).map(\.heat).min()
                guard TierPolicy.returns(heat: chunks[index].heat, coldest: coldest, counted: view.counted, budget: budget) else {
                    continue
                }
                chunks[index].isOpen = true
                chunks[index].compressed = 0
                inFile.remove(index)
            }
            makeRoom()
        }

        mutating func makeRoom() {
            for _ in 0..<100 {
                let plan = TierPolicy.down(view)
                if plan.isEmpty { return }
                for move in plan {
                    switch move {
                    case .compress(let index):
                        chunks[index].isOpen = false
                        chunks[index].compressed = 700 << 10
                    case .store(let index):
                        chunks[index].isOpen = false
                        inFile.insert(index)
                    case .spill(let index):
                        chunks[index].compressed = 0
                        inFile.insert(index)
                    }
                }
            }
            Issue.record("the plan does not end")
        }
    }

    /// A guest uses a third of its chunks all the time, and scans the others now and then. With half of the memory, the hot ones stay.
    @Test func theHotSetStays() {
        var simulation = Simulation(chunkCount: 90, budget: 90 << 20)
        var seed: UInt64 = 1
        for pass in 0..<200 {
            var touched: [Int: Int] = [:]
            for index in 0..<30 { touched[index] = 100 }
            seed = seed &* 6_364_136_223_846_793_005 &+ 1
            touched[30 + Int(seed >> 33) % 60] = 2
            let before = simulation.faults
            simulation.pass(touched)
            #expect(simulation.view.counted <= simulation.budget)
            if pass > 10 { #expect(simulation.faults - before <= 1, "pass \(pass): a hot chunk had to come back") }
        }
        #expect((0..<30).allSatisfy { simulation.chunks[$0].isOpen })
        #expect(!simulation.inFile.isEmpty && simulation.inFile.allSatisfy { $0 >= 30 })
    }

    /// The hot set moves. After a few passes the new one is in memory.
    @Test func aNewHotSetTakesThePlaceOfTheOld() {
        var simulation = Simulation(chunkCount: 80, budget: 100 << 20)
        for phase in 0..<4 {
            let hot = phase * 20..<phase * 20 + 20
            var last = 0
            for _ in 0..<20 {
                let before = simulation.faults
                simulation.pass(Dictionary(uniqueKeysWithValues: hot.map { ($0, 200) }))
                last = simulation.faults - before
            }
            #expect(last == 0, "phase \(phase): \(last) chunks are still not in memory")
        }
    }

    // MARK: Times

    @Test func bucketsCoverAllTimes() {
        var before = 0
        var time: UInt64 = 0
        while time < 1 << 45 {
            let bucket = TierHits.bucket(time)
            #expect(bucket >= before && (bucket == 159 || TierHits.upperBound(bucket) >= time))
            #expect(bucket == 0 || TierHits.upperBound(bucket - 1) < time)
            before = bucket
            time += max(1, time / 9)
        }
        #expect(TierHits.bucket(.max) == 159)
        let hits = TierHits()
        for time in 1...100 as ClosedRange<UInt64> { hits.record(nanoseconds: time * 1000) }
        hits.add()
        #expect(hits.hits == 101 && hits.latency.count == 100 && hits.latency.maximum == 100_000)
        #expect((45_000...64_000).contains(hits.latency.quantile(0.5)) && (90_000...100_000).contains(hits.latency.quantile(0.99)))
    }
}

extension TierPolicy {
    fileprivate static func chunk(_ count: UInt64) -> UInt64 { count * UInt64(BudgetStore.chunkBytes) }
}
