// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMModel

/// Exits by guest process, read from a page that the guest writes.
@Suite struct SymbioticTaskRecorderTests {
    private static let page: UInt64 = 0x3000

    /// A guest's local page and the recorder that reads it.
    private struct Guest {
        let memory: GuestMemory
        let generations = RegistrationGeneration()
        let recorder: TaskRecorder
        var sequence: UInt32 = 0

        init() throws {
            memory = try GuestMemory(byteCount: 1 << 20)
            recorder = try TaskRecorder()
        }

        mutating func watch() {
            unsafe recorder.watch(localPage: try? memory.pointer(SymbioticTaskRecorderTests.page, byteCount: 4096), generations)
        }

        /// Writes the current task to the page, as the guest's scheduler does.
        mutating func run(_ tgid: UInt32, _ name: String, startTime: UInt64 = 1) throws {
            try beginUpdate()
            try store(tgid, startTime, Array(name.utf8))
            try endUpdate()
        }

        mutating func beginUpdate() throws {
            sequence |= 1
            try memory.store(sequence, at: SymbioticTaskRecorderTests.page + 0x20)
        }

        mutating func endUpdate() throws {
            sequence &+= 1
            try memory.store(sequence, at: SymbioticTaskRecorderTests.page + 0x20)
        }

        func store(_ tgid: UInt32, _ startTime: UInt64, _ name: [UInt8]) throws {
            let task = SymbioticTaskRecorderTests.page + 0x28
            try memory.store(tgid, at: task)
            try memory.store(startTime, at: task + 16)
            try memory.write(task + 24, bytes: Array((name + [UInt8](repeating: 0, count: 16)).prefix(16)))
        }

        func exits(_ count: Int, _ reason: ExitReason = .pioWrite, ticks: UInt64 = 10) {
            for _ in 0..<count { recorder.record(reason, ticks: ticks) }
        }

        func count(_ tgid: UInt32?) -> UInt64? {
            let lines = recorder.lines().filter { $0.tgid == tgid }
            return lines.isEmpty ? nil : lines.reduce(0) { $0 + $1.exits.reduce(0) { $0 + $1.count } }
        }

        var total: UInt64 {
            recorder.lines().reduce(0) { $0 + $1.exits.reduce(0) { $0 + $1.count } }
        }
    }

    @Test func exitsGoToTheTaskThatRuns() throws {
        var guest = try Guest()
        guest.watch()
        try guest.run(1, "init")
        guest.exits(3)
        try guest.run(42, "busybox")
        guest.exits(5, .mmioWrite, ticks: 7)
        try guest.run(1, "init")
        guest.exits(1)
        #expect(guest.count(1) == 4)
        #expect(guest.count(42) == 5)
        let line = guest.recorder.lines().first { $0.tgid == 42 }
        #expect(line?.name == "busybox")
        #expect(line?.exits.map { $0.ticks } == [35])
        #expect(line?.exits.map { $0.reason } == [.mmioWrite])
    }

    @Test func withoutAPageNothingIsCounted() throws {
        var guest = try Guest()
        guest.exits(10)
        #expect(guest.recorder.lines().isEmpty)
        guest.watch()
        try guest.run(7, "seven")
        guest.exits(1)
        guest.recorder.forget()
        guest.exits(10)
        #expect(guest.total == 1)
        // After the guest has dropped its registration, the recorder no longer reads the page.
        guest.watch()
        guest.generations.advance()
        try guest.run(8, "eight")
        guest.exits(1)
        guest.exits(10)
        #expect(guest.count(8) == nil)
    }

    @Test func inTheMiddleOfAnUpdateTheLastTaskCounts() throws {
        var guest = try Guest()
        guest.watch()
        try guest.run(1, "old")
        guest.exits(1)
        try guest.beginUpdate()
        try guest.store(2, 1, Array("new".utf8))
        guest.exits(2)
        #expect(guest.count(2) == nil)
        #expect(guest.count(1) == 3)
        try guest.endUpdate()
        guest.exits(4)
        #expect(guest.count(2) == 4)
    }

    @Test func beforeTheFirstGoodCopyNoProcessIsBlamed() throws {
        var guest = try Guest()
        try guest.beginUpdate()
        guest.watch()
        guest.exits(6)
        #expect(guest.count(nil) == 6)
        try guest.endUpdate()
        for tgid: UInt32 in 0..<100 {
            try guest.run(tgid, "later")
            guest.exits(1)
            #expect(guest.count(tgid) == 1)
        }
        #expect(guest.count(nil) == 6)
    }

    @Test func moreProcessesThanLinesShareOneAndNothingIsLost() throws {
        var guest = try Guest()
        guest.watch()
        for round in 0..<2 {
            for tgid: UInt32 in 0..<1000 {
                try guest.run(tgid &* 2_654_435_761, "p\(round)")
                guest.exits(2)
            }
        }
        let lines = guest.recorder.lines()
        #expect(guest.total == 4000)
        #expect(lines.count == 193)
        let others = lines.first { $0.tgid == nil }
        #expect(others?.name == "(others)")
        #expect(guest.count(nil) == UInt64(4000 - 192 * 4))
    }

    @Test func aNumberThatIsUsedAgainIsAnotherProcess() throws {
        var guest = try Guest()
        guest.watch()
        try guest.run(7, "first", startTime: 100)
        guest.exits(3)
        try guest.run(7, "second", startTime: 200)
        guest.exits(5)
        // A thread of the running process exits, so the start time of its process is unknown.
        try guest.run(7, "second", startTime: 0)
        guest.exits(1)
        try guest.run(7, "first", startTime: 100)
        guest.exits(1)
        let lines = guest.recorder.lines().filter { $0.tgid == 7 }.sorted { $0.startTime < $1.startTime }
        #expect(lines.map(\.startTime) == [100, 200])
        #expect(lines.map(\.name) == ["first", "second"])
        #expect(lines.map { $0.exits.reduce(0) { $0 + $1.count } } == [4, 6])
    }

    @Test func aStartThatIsToldLaterIsTakenOver() throws {
        var guest = try Guest()
        guest.watch()
        try guest.run(7, "late", startTime: 0)
        guest.exits(1)
        try guest.run(7, "late", startTime: 100)
        guest.exits(1)
        #expect(guest.recorder.lines().map(\.startTime) == [100])
        #expect(guest.total == 2)
    }

    @Test func theHighestNumberIsAProcessLikeAnother() throws {
        var guest = try Guest()
        guest.watch()
        try guest.run(.max, "last")
        guest.exits(1)
        try guest.run(0, "first")
        guest.exits(2)
        #expect(guest.count(.max) == 1)
        #expect(guest.count(0) == 2)
    }

    @Test func namesAreFitForATerminal() throws {
        var guest = try Guest()
        guest.watch()
        try guest.beginUpdate()
        try guest.store(5, 0, [0x1b, 0x5b, 0x32, 0x4a, 0x0a, 0xff] + [UInt8](repeating: 0x41, count: 10))
        try guest.endUpdate()
        guest.exits(1)
        #expect(guest.recorder.lines().first?.name == "?[2J?\u{fffd}AAAAAAAAAA")
    }

    @Test func noiseInThePageCostsOnlyTheAnswer() throws {
        var guest = try Guest()
        guest.watch()
        var generator = SeededNoise(seed: 42)
        for _ in 0..<2000 {
            try guest.memory.write(Self.page, bytes: (0..<128).map { _ in UInt8(truncatingIfNeeded: generator.next()) })
            guest.exits(1, ticks: generator.next() >> 40)
        }
        #expect(guest.total == 2000)
    }
}

/// A reproducible sequence of random numbers.
private struct SeededNoise: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}
