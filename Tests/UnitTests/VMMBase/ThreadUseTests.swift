// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import VMMBase

@Suite struct ThreadUseTests {
    @Test func aThreadThatWorksAndSleeps() throws {
        let use = ThreadUse()
        #expect(use.times == ThreadUse.Times())
        let (isWorking, isDone) = (Monitor(false), Monitor(false))
        let thread = try Thread(.signals, "use") {
            use.begin()
            var random: UInt64 = 1
            for _ in 0..<20_000_000 { random = random &* 6_364_136_223_846_793_005 &+ 1 }
            isWorking.update { $0 = random != 0 }
            isDone.wait { $0 ? true : nil }
            use.end()
        }
        isWorking.wait { $0 ? true : nil }
        let before = use.times
        usleep(50_000)
        let after = use.times
        isDone.update { $0 = true }
        thread.join()
        #expect(after.wallNanoseconds - before.wallNanoseconds >= 50_000_000)
        let (first, second) = (try #require(before.runNanoseconds), try #require(after.runNanoseconds))
        #expect(first > 1_000_000)
        // It sleeps.
        #expect(second - first < 50_000_000)
        #expect(second <= after.wallNanoseconds)
        // The times of a thread that has ended stay.
        let last = use.times
        #expect(last == use.times)
        #expect(last.wallNanoseconds >= after.wallNanoseconds)
        #expect(try #require(last.runNanoseconds) >= second)
    }

    @Test func filesOfTheKernel() {
        #expect(ThreadUse.parse(schedule: "123 45 6\n") == (123, 45))
        for text in ["", "1", "a b", "-1 2", "99999999999999999999 1"] { #expect(ThreadUse.parse(schedule: text) == (nil, nil)) }
        let fields = (3...52).map { $0 == 3 ? "R" : $0 == 43 ? "250" : "\($0)" }.joined(separator: " ")
        let second: UInt64 = 1_000_000_000
        #expect(ThreadUse.parse(status: "7 (a ) b) \(fields)") == (250 * second / UInt64(sysconf(Int32(_SC_CLK_TCK))), true))
        #expect(!ThreadUse.parse(status: "7 (R) S\(fields.dropFirst())").isRunnable)
        for text in ["", "7 (a", "7 (a) S 1 2"] { #expect(ThreadUse.parse(status: text) == (nil, false)) }
        let huge = (3...52).map { $0 == 43 ? "\(UInt64.max)" : "\($0)" }.joined(separator: " ")
        #expect(ThreadUse.parse(status: "7 (a) \(huge)") == (nil, false))
    }
}
