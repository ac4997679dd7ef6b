// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel
@testable import VMMPresentation

@Suite struct EscapeFilterTests {
    private func filter(_ bytes: [UInt8]) -> (passed: [UInt8], commands: [ConsoleCommand]) {
        var filter = EscapeFilter()
        var passed: [UInt8] = []
        var commands: [ConsoleCommand] = []
        for byte in bytes {
            switch filter.take(byte) {
            case .pass(let byte): passed.append(byte)
            case .command(let command): commands.append(command)
            case .swallowed: break
            }
        }
        return (passed, commands)
    }

    @Test func allButTheEscapePasses() {
        let all = (0...255).map { UInt8($0) }.filter { $0 != 1 }
        #expect(filter(all).passed == all)
        #expect(filter(all).commands.isEmpty)
    }

    @Test func escapesAreTakenOut() {
        #expect(filter([97, 1, 120, 98]) == ([97, 98], [.leave]))
        #expect(filter([1, 104, 1, 63]) == ([], [.help, .help]))
        #expect(filter([1, 1, 120]) == ([1, 120], []))
        #expect(filter([1, 1, 1, 120]) == ([1], [.leave]))
        #expect(filter([1, 122, 120]) == ([120], []))
        #expect(filter([1]) == ([], []))
    }
}

@Suite(.timeLimit(.minutes(1))) struct ControlConsoleTests {
    private func pipePair() throws -> (read: Int32, write: Int32) {
        var numbers: [Int32] = [-1, -1]
        try #require(unsafe pipe(&numbers) == 0)
        return (numbers[0], numbers[1])
    }

    @Test func outputReachesAFileWhole() throws {
        let folder = try TemporaryFolder()
        let console = try ConsoleBackend(.file(path: folder.path + "/console"))
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
        for byte in bytes { console.output.write(byte) }
        console.stop()
        #expect(console.droppedByteCount == 0)
        #expect(try SmallFile.read(folder.path + "/console", atMost: 1 << 20) == bytes)
        #expect(throws: KVMError.self) { try ConsoleBackend(.file(path: folder.path + "/no/such")) }
        console.stop()
    }

    @Test func aPseudoTerminalNobodyReadsHoldsNobodyUp() throws {
        let console = try ConsoleBackend(.pseudoTerminal)
        let clock = ContinuousClock()
        let time = clock.measure { for _ in 0..<500_000 { console.output.write(UInt8(ascii: "x")) } }
        #expect(time < .seconds(2))
        #expect(console.droppedByteCount > 300_000)
        #expect(clock.measure { console.stop() } < .seconds(4))
    }

    @Test func aPseudoTerminalCarriesBothWays() throws {
        let console = try ConsoleBackend(.pseudoTerminal)
        let path = try #require(console.pseudoTerminalPath)
        let received = Mutex([UInt8]())
        try console.start(
            receive: { byte in
                received.withLock { $0.append(byte) }
                return true
            }, leave: {})
        let other = try FileDescriptor.open(path, O_RDWR | O_NOCTTY)
        for byte in "login: ".utf8 { console.output.write(byte) }
        var chunk = [UInt8](repeating: 0, count: 64)
        var seen: [UInt8] = []
        while seen.count < 7 {
            let count = unsafe read(other.rawValue, &chunk, chunk.count)
            try #require(count > 0)
            seen += chunk.prefix(count)
        }
        #expect(seen == Array("login: ".utf8))
        let typed: [UInt8] = [114, 1, 120, 13]
        #expect(unsafe write(other.rawValue, typed, typed.count) == typed.count)
        for _ in 0..<500 where received.withLock({ $0.count }) < typed.count { usleep(10_000) }
        // All of it, Ctrl-A too: the program on the other side has its own escapes.
        #expect(received.withLock { $0 } == typed)
        console.stop()
    }

    @Test func pipedInputArrivesWholeThroughASlowPort() throws {
        let pipe = try pipePair()
        let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0) }
        let received = Mutex([UInt8]())
        let calls = Atomic<Int>(0)
        let input = try ConsoleInput(
            descriptor: pipe.read, owner: nil, isTerminal: false,
            receive: { byte in
                // Full now and then, as a FIFO is.
                guard calls.add(1, ordering: .relaxed).newValue % 700 != 0 else { return false }
                received.withLock { $0.append(byte) }
                return true
            }, command: { _ in Issue.record("an escape in piped input") })
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe write(pipe.write, $0.baseAddress, $0.count) }
            try #require(count > 0)
            rest = rest.dropFirst(count)
        }
        close(pipe.write)
        for _ in 0..<1000 where received.withLock({ $0.count }) < bytes.count { usleep(10_000) }
        #expect(received.withLock { $0 } == bytes)
        input.stop()
    }

    @Test func escapesWorkWhenTheGuestReadsNothing() throws {
        let pipe = try pipePair()
        let commands = Mutex([ConsoleCommand]())
        let input = try ConsoleInput(
            descriptor: pipe.read, owner: nil, isTerminal: true, receive: { _ in false },
            command: { command in commands.withLock { $0.append(command) } })
        let typed = [UInt8](repeating: 97, count: 30_000) + [1, 120]
        var rest = typed[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe write(pipe.write, $0.baseAddress, $0.count) }
            try #require(count > 0)
            rest = rest.dropFirst(count)
        }
        for _ in 0..<500 where commands.withLock({ $0.isEmpty }) { usleep(10_000) }
        #expect(commands.withLock { $0 } == [.leave])
        input.stop()
        close(pipe.write)
    }

    @Test func onlyThisProcessOwnTerminalIsMadeRaw() throws {
        let terminal = try PseudoTerminal()
        #expect(!isRaw(STDERR_FILENO + 1000))
        // A terminal that is not this process' own is another's to change.
        #expect(!isRaw(terminal.master.rawValue))
        TerminalMode.restoreAll()
    }

    private func isRaw(_ number: Int32) -> Bool {
        TerminalMode(number) != nil
    }
}
