// SPDX-License-Identifier: Apache-2.0

import SymVMM
import Testing

@testable import SwapBypass

@Suite struct SwapBypassTests {
    @Test func optionsAreRead() throws {
        #expect(try SwapConfiguration(option: "64M") == SwapConfiguration(byteCount: 64 << 20))
        #expect(try SwapConfiguration(option: "1G,bypass=on") == SwapConfiguration(byteCount: 1 << 30, bypass: true))
        #expect(try SwapConfiguration(option: "1G,bypass=off") == SwapConfiguration(byteCount: 1 << 30))
    }

    @Test(arguments: ["", "0", "4K", "1M,", "1M,bypass", "1M,bypass=yes", "1M,bypass=on,bypass=on", "1000001", "2T", "much"])
    func wrongOptionsAreRefused(text: String) {
        #expect(throws: ControlError.self) { try SwapConfiguration(option: text) }
    }

    @Test func headerIsThatOfASwapArea() {
        let page = SwapHeader.bytes(pageCount: 0x1_0000)
        #expect(page.count == 4096)
        #expect(Array(page[4086...]) == Array("SWAPSPACE2".utf8))
        #expect(Array(page[1024..<1036]) == [1, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0])
        #expect(page[1036 + 6] >> 4 == 4)
        #expect(Array(page[1052..<1068]) == Array("symvmm-swap".utf8) + [0, 0, 0, 0, 0])
    }

    @Test func neighbourhoodsGrowAndStayInside() {
        let policy = SwapPolicy()
        #expect(policy.neighbourhood(of: 37, in: 0...511, region: 5) == 32...47)
        #expect(policy.neighbourhood(of: 200, in: 0...511, region: 5) == 128...255)
        #expect(policy.neighbourhood(of: 300, in: 0...511, region: 5) == 0...511)
        #expect(policy.neighbourhood(of: 300, in: 0...511, region: 5) == 0...511)
        #expect(policy.neighbourhood(of: 37, in: 36...40, region: 6) == 36...40)
        #expect(policy.neighbourhood(of: 36, in: 36...36, region: 6) == 36...36)
        var seed: UInt64 = 1
        for _ in 0..<10_000 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1
            let first = seed >> 20 & 511
            let last = first + (seed >> 40) % (512 - first)
            let entry = first + (seed >> 50) % (last - first + 1)
            let pages = policy.neighbourhood(of: entry, in: first...last, region: seed)
            #expect(pages.contains(entry) && pages.lowerBound >= first && pages.upperBound <= last)
        }
    }

    @Test func storeIsFormattedAndGivesMemoryBack() throws {
        let store = try SwapStore(byteCount: 4 << 20)
        #expect(store.residentByteCount == 4096)
        #expect(throws: KVMError.self) { try SwapStore(byteCount: 4097) }
        try SwapDisk(store).discard(at: 0, byteCount: 4096)
        #expect(store.residentByteCount == 0)
    }
}
