// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import SwapBypass
@testable import SymVMM
@testable import VMMBase

/// The service's state, and the pages of its store.
@Suite struct SwapStateTests {
    private static let byteCount: UInt64 = 16 << 20

    private func put(_ store: SwapStore, _ slot: UInt64, _ value: UInt8, isResident: Bool = true) throws {
        try unsafe [UInt8](repeating: value, count: 4096).withUnsafeBytes {
            try unsafe store.writePage(slot, from: $0, isResident: isResident)
        }
    }

    private func get(_ store: SwapStore, _ slot: UInt64) throws -> Set<UInt8> {
        var page = [UInt8](repeating: 0xee, count: 4096)
        try unsafe page.withUnsafeMutableBytes { try unsafe store.readPage(slot, into: $0) }
        return Set(page)
    }

    @Test func pagesInMemoryAndInAFileAreCopied() throws {
        let folder = try VirtioTestFolder()
        let stores: [() throws -> SwapStore] = [
            { try MemoryStore(byteCount: SwapStateTests.byteCount) },
            { try FileStore(path: "\(folder.path)/a\(UInt64.random(in: 0 ... .max))", byteCount: SwapStateTests.byteCount) },
        ]
        for make in stores {
            let (from, to) = (try make(), try make())
            try put(from, 5, 7)
            try put(from, 4095, 9)
            try to.copyContents(from: from)
            #expect(try get(to, 5) == [7])
            #expect(try get(to, 4095) == [9])
            #expect(try get(to, 6) == [0])
            #expect(try get(to, 0) == get(from, 0))
        }
    }

    @Test func whatTheGuestCanReachStaysWithinItsReach() throws {
        let folder = try VirtioTestFolder()
        let from = try BudgetStore(path: "\(folder.path)/a", byteCount: SwapStateTests.byteCount, budget: 4 << 20)
        try put(from, 3, 3)
        try put(from, 1000, 4)
        // This page is in memory and contains only zeroes.
        try put(from, 1001, 0)
        try put(from, 2000, 5, isResident: false)
        // The new budget is smaller than the number of bytes in memory.
        #expect(from.setBudget(2 << 20))
        let to = try BudgetStore(path: "\(folder.path)/b", byteCount: SwapStateTests.byteCount, budget: 2 << 20)
        try to.copyContents(from: from)
        let slots = try #require(to.residentSlots)
        #expect([UInt64(3), 1000, 1001, 2000, 7].map { slots.contains($0) } == [true, true, true, false, false])
        #expect(try get(to, 3) == [3])
        #expect(try get(to, 1000) == [4])
        #expect(try get(to, 2000) == [5])
        #expect(to.residentByteCount == 4 << 20)
        #expect(to.budget == 2 << 20)
        // The window has the same contents.
        #expect(unsafe to.mapping.baseAddress.load(fromByteOffset: 1000 * 4096, as: UInt8.self) == 4)
    }

    @Test func storesOfUnlikeSizesAreRefused() throws {
        let store = try MemoryStore(byteCount: 1 << 20)
        #expect(throws: VMMError.self) { try store.copyContents(from: try MemoryStore(byteCount: 2 << 20)) }
    }

    @Test func theSwitchIsRestoredAndOtherPlacesAreRefused() throws {
        let first = try SwapBypassService(SwapConfiguration(byteCount: 1 << 20, bypass: true))
        var state = try first.saveState()
        #expect(state.isEnabled && !state.isWindowMapped)
        state.requestGeneration = 17
        let second = try SwapBypassService(SwapConfiguration(byteCount: 1 << 20))
        try second.restoreState(state)
        #expect(second.isEnabled)
        #expect(try second.saveState() == state)
        let changes: [(inout SwapBypassService.State) -> Void] = [
            { $0.byteCount = 2 << 20 }, { $0.windowAddress = 4096 }, { $0.diskRegisters = 8 }, { $0.bitmapAddress = 1 }, { $0.budget = 1 },
            // Without a machine there is no guest to map the window into.
            { $0.isWindowMapped = true },
        ]
        for change in changes {
            var wrong = state
            change(&wrong)
            #expect(throws: VMMError.self) { try second.restoreState(wrong) }
        }
    }
}
