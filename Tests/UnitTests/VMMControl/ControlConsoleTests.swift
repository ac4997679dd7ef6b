// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import SystemPackage
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
        #expect(throws: VMMError.self) { try ConsoleBackend(.file(path: folder.path + "/no/such")) }
        console.stop()
    }

    @Test func aFileIsRotatedAtItsLimit() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/console"
        let limit = UInt64(64 << 10)
        let console = try ConsoleBackend(.file(path: path, limit: limit))
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        for byte in bytes { console.output.write(byte) }
        console.stop()
        #expect(console.droppedByteCount == 0)
        // The output filled four whole files, of which the fourth is kept as `.1`; the file has the rest.
        let (old, new) = try (SmallFile.read(path + ".1", atMost: 1 << 20), SmallFile.read(path, atMost: 1 << 20))
        #expect(old == Array(bytes[(3 * Int(limit))..<(4 * Int(limit))]) && new == Array(bytes[(4 * Int(limit))...]))
        #expect(try status(path).st_mode & 0o7777 == 0o600)
        // The existing contents count towards the limit.
        let again = try ConsoleBackend(.file(path: path, limit: limit))
        for byte in bytes.prefix(Int(limit)) { again.output.write(byte) }
        again.stop()
        #expect(try status(path + ".1").st_size == Int(limit) && status(path).st_size == new.count)
    }

    /// If another file has taken the name, it stays unchanged, and the console file does not grow beyond its limit.
    @Test func aFullFileWithoutItsNameTakesNoMore() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/console"
        let console = try ConsoleBackend(.file(path: path, limit: 64 << 10))
        #expect(unsafe rename(path, path + ".moved") == 0 && mkdir(path, 0o700) == 0)
        for _ in 0..<100_000 { console.output.write(1) }
        console.stop()
        #expect(try status(path + ".moved").st_size == 64 << 10)
        #expect(console.droppedByteCount == 100_000 - 64 << 10)
        #expect(unsafe rmdir(path) == 0)
    }

    private func status(_ path: String) throws -> stat {
        var status = stat()
        try #require(unsafe lstat(path, &status) == 0, "\(path): \(errno)")
        return status
    }

    /// All files that symvmm appends to: the console, the log, the metrics.
    private static let openers: [@Sendable (String) throws -> Void] = [
        { _ = try ConsoleBackend(.file(path: $0)) },
        { path in
            var logger = LoggerConfiguration()
            logger.path = path
            try EventLog(name: "vm").configure(logger)
        }, { _ = try LineOutput(path: $0) },
    ]

    @Test func whatOthersMayPutIntoAFolderIsNotFollowed() throws {
        let folder = try TemporaryFolder()
        let precious = folder.path + "/precious"
        _ = try OwnedFileDescriptor.open(precious, O_WRONLY | O_CREAT)
        let shared = folder.path + "/shared"
        #expect(unsafe mkdir(shared, 0o700) == 0)
        let mask = umask(0)
        defer { umask(mask) }
        for (index, open) in ControlConsoleTests.openers.enumerated() {
            let path = "\(shared)/\(index)"
            // In a folder that only we can write to, symbolic links are followed.
            #expect(unsafe chmod(shared, 0o755) == 0 && symlink(precious, path + "link") == 0)
            #expect(throws: Never.self) { try open(path + "link") }
            #expect(unsafe chmod(shared, 0o1777) == 0)
            let link = #expect(throws: VMMError.self) { try open(path + "link") }
            #expect(link?.description.contains("symbolic links are not followed") == true)
            #expect(unsafe Glibc.link(precious, path + "hard") == 0)
            let hard = #expect(throws: VMMError.self) { try open(path + "hard") }
            #expect(hard?.description.contains("hard link") == true)
            #expect(unsafe unlink(path + "hard") == 0)
            // A new file is readable only by its owner.
            #expect(throws: Never.self) { try open(path) }
            #expect(try status(path).st_mode & 0o7777 == 0o600)
            #expect(throws: Never.self) { try open(path) }
            if geteuid() == 0 {
                #expect(unsafe chown(path, 65534, 65534) == 0)
                let foreign = #expect(throws: VMMError.self) { try open(path) }
                // The kernel may refuse first (fs.protected_regular).
                #expect(foreign.map { $0.errno == .permissionDenied || $0.description.contains("belongs to user 65534") } == true)
            }
        }
        #expect(try status(precious).st_size == 0)
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
        let other = try OwnedFileDescriptor.open(path, O_RDWR | O_NOCTTY)
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
        // The guest gets every byte, also Ctrl-A: the program on the other side has its own escapes.
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
                // Refuse a byte now and then, like a full FIFO.
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
        // The mode of a terminal that does not control this process stays unchanged.
        #expect(!isRaw(terminal.master.rawValue))
        TerminalMode.restoreAll()
    }

    private func isRaw(_ number: Int32) -> Bool {
        TerminalMode(number) != nil
    }
}
