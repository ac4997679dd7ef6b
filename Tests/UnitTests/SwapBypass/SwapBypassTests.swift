// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SwapBypass
@testable import VMMBase

@Suite struct SwapBypassTests {
    @Test func optionsAreRead() throws {
        #expect(try SwapConfiguration(option: "64M") == SwapConfiguration(byteCount: 64 << 20))
        #expect(try SwapConfiguration(option: "1G,bypass=on") == SwapConfiguration(byteCount: 1 << 30, bypass: true))
        #expect(try SwapConfiguration(option: "1G,bypass=off") == SwapConfiguration(byteCount: 1 << 30))
        #expect(
            try SwapConfiguration(option: "1M,path=/a=b,bypass=on")
                == SwapConfiguration(byteCount: 1 << 20, path: "/a=b", bypass: true))
        #expect(
            try SwapConfiguration(option: "8M,budget=4M,path=f") == SwapConfiguration(byteCount: 8 << 20, path: "f", budget: 4 << 20))
    }

    @Test(arguments: [
        "", "0", "4K", "1M,", "1M,bypass", "1M,bypass=yes", "1M,bypass=on,bypass=on", "1M,path", "1M,path=", "1M,path=a,path=b",
        "1M,budget=1M", "1M,path=a,budget=x", "1M,size=2M", "1000001", "2T", "much",
    ])
    func wrongOptionsAreRefused(text: String) {
        #expect(throws: VMMError.self) { try SwapConfiguration(option: text) }
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
        #expect(policy.neighbourhood(of: 37, in: 0...511, region: 5, space: 1) == 32...47)
        #expect(policy.neighbourhood(of: 200, in: 0...511, region: 5, space: 1) == 128...255)
        #expect(policy.neighbourhood(of: 300, in: 0...511, region: 5, space: 1) == 0...511)
        #expect(policy.neighbourhood(of: 300, in: 0...511, region: 5, space: 1) == 0...511)
        // A neighbouring region of the same address space, but not of another one.
        #expect(policy.neighbourhood(of: 3, in: 0...511, region: 6, space: 1) == 0...511)
        #expect(policy.neighbourhood(of: 3, in: 0...511, region: 4, space: 1) == 0...511)
        #expect(policy.neighbourhood(of: 3, in: 0...511, region: 6, space: 2) == 0...15)
        // Single accesses to different regions never widen the range.
        for region in stride(from: UInt64(100), to: 200, by: 1) {
            #expect(policy.neighbourhood(of: 64, in: 0...511, region: region, space: 3) == 64...79)
        }
        #expect(policy.neighbourhood(of: 37, in: 36...40, region: 9, space: 1) == 36...40)
        #expect(policy.neighbourhood(of: 36, in: 36...36, region: 11, space: 1) == 36...36)
        var seed: UInt64 = 1
        for _ in 0..<10_000 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1
            let first = seed >> 20 & 511
            let last = first + (seed >> 40) % (512 - first)
            let entry = first + (seed >> 50) % (last - first + 1)
            let pages = policy.neighbourhood(of: entry, in: first...last, region: seed, space: seed >> 7)
            #expect(pages.contains(entry) && pages.lowerBound >= first && pages.upperBound <= last)
        }
    }

    @Test func aStatusServesItsRequestAndEarlierOnes() {
        let status = SwitchStatus(isOn: true, reason: 3, requestGeneration: 7)
        let same = SwitchStatus(status.packed)
        #expect(same.isOn && same.reason == 3 && same.requestGeneration == 7)
        #expect(status.isServed(7) && status.isServed(6) && !status.isServed(8))
        #expect(SwitchStatus(requestGeneration: 1).isServed(.max) && !SwitchStatus(requestGeneration: .max).isServed(1))
        // An impossible reason does not set the other fields.
        #expect(!SwitchStatus(SwitchStatus(reason: .max).packed).isOn)
    }
}
