// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VMMBase

@testable import SymVMM

@Suite struct VCPUClockTests {
    @Test func aPauseThatEndsIsCountedOnce() throws {
        let clock = VCPUClock()
        let isDone = Atomic<Bool>(false)
        let thread = try VMMBase.Thread(.command, "vcpu") {
            for _ in 0..<200_000 {
                clock.beginPause()
                clock.endPause()
            }
            isDone.store(true, ordering: .releasing)
        }
        var (last, decreases) = (clock.pausedTicks, 0)
        while !isDone.load(ordering: .acquiring) {
            let now = clock.pausedTicks
            if now < last { decreases += 1 }
            last = now
        }
        thread.join()
        #expect(decreases == 0)
        #expect(clock.pausedTicks >= last && last > 0)
    }
}
