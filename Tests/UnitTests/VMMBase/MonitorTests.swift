// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import VMMBase

extension IOThread {
    /// An I/O thread that runs. The caller stops it.
    static func running() throws(VMMError) -> IOThread {
        let thread = try IOThread()
        try thread.start()
        return thread
    }
}

@Suite struct MonitorTests {
    @Test func aWaitingThreadSeesEveryChange() throws {
        let number = Monitor(0)
        let thread = try Thread(.command, "counter") {
            for expected in 1...1000 {
                number.wait { $0 == 2 * expected - 1 ? true : nil }
                number.update { $0 += 1 }
            }
        }
        for expected in 1...1000 {
            number.update { $0 += 1 }
            number.update { _ in }
            number.wait { $0 == 2 * expected ? true : nil }
        }
        thread.join()
        #expect(number.withLock { $0 } == 2000)
    }

    @Test func aDeadlinePasses() {
        let flag = Monitor(false)
        let before = TickClock.monotonicNanoseconds()
        #expect(flag.wait(until: before + 20_000_000) { $0 ? true : nil } == nil)
        #expect(TickClock.monotonicNanoseconds() >= before + 20_000_000)
        flag.update { $0 = true }
        #expect(flag.wait(until: 0) { $0 ? true : nil } == true, "a deadline in the past, and a result")
        #expect(flag.wait(until: .max) { $0 ? true : nil } == true)
    }

    @Test func valuesAreReleased() {
        final class Value: Sendable {}
        weak var last: Value?
        do {
            let value = Value()
            last = value
            let monitor = Monitor<Value?>(value)
            #expect(monitor.withLock { $0 != nil })
        }
        #expect(last == nil)
    }
}

@Suite struct IOThreadWorkTests {
    @Test func workIsDoneOnTheThreadInOrder() throws {
        let thread = try IOThread.running()
        let caller = UInt(pthread_self())
        let seen = Mutex<[Int]>([])
        let isElsewhere = Atomic<Bool>(false)
        for number in 0..<100 {
            thread.perform {
                seen.withLock { $0.append(number) }
                isElsewhere.store(UInt(pthread_self()) != caller, ordering: .sequentiallyConsistent)
                // On the thread itself: at once.
                thread.perform { seen.withLock { $0.append(-number) } }
            }
        }
        #expect(seen.withLock { $0 } == (0..<100).flatMap { [$0, -$0] })
        let wasElsewhere = isElsewhere.load(ordering: .sequentiallyConsistent)
        #expect(wasElsewhere)
        thread.stop()
        let isHere = Atomic<Bool>(false)
        thread.perform { isHere.store(UInt(pthread_self()) == caller, ordering: .sequentiallyConsistent) }
        let wasHere = isHere.load(ordering: .sequentiallyConsistent)
        #expect(wasHere, "without a thread, by the caller")
    }
}
