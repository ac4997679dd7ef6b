// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing

@testable import VMMBase
@testable import VMMControl

/// The event log, through swift-log's `Logger`.
@Suite struct EventLogTests {
    /// The lines of a log with this level, without their times.
    private func lines(_ level: LoggerConfiguration.Level, _ write: (Logger) -> Void) throws -> [String] {
        let folder = try TemporaryFolder()
        let log = EventLog(name: "vm")
        var configuration = LoggerConfiguration()
        configuration.path = folder.path + "/log"
        configuration.level = level
        configuration.showsLevel = true
        try log.configure(configuration)
        write(log.logger)
        #expect(log.droppedLineCount == 0)
        let text = String(decoding: try SmallFile.read(folder.path + "/log", atMost: 1 << 20), as: UTF8.self)
        return text.split(separator: "\n").map { String($0.drop { $0 != "[" }) }
    }

    @Test(
        arguments: [
            (.off, []), (.error, ["Error", "Error"]), (.warning, ["Error", "Error", "Warning"]),
            (.info, ["Error", "Error", "Warning", "Info", "Info"]), (.debug, ["Error", "Error", "Warning", "Info", "Info", "Debug"]),
            (.trace, ["Error", "Error", "Warning", "Info", "Info", "Debug", "Trace"]),
        ] as [(LoggerConfiguration.Level, [String])])
    func linesAreWrittenByLevel(level: LoggerConfiguration.Level, expected: [String]) throws {
        let lines = try lines(level) { logger in
            for level in Logger.Level.allCases.reversed() { logger.log(level: level, "x") }
        }
        #expect(lines == expected.map { "[vm:\($0)] x" })
    }

    @Test func theLevelChangesForLoggersThatExist() throws {
        let folder = try TemporaryFolder()
        let log = EventLog(name: "vm")
        let logger = log.logger
        logger.error("no file yet")
        var configuration = LoggerConfiguration()
        configuration.path = folder.path + "/log"
        configuration.level = .warning
        try log.configure(configuration)
        logger.info("below")
        configuration.level = .info
        try log.configure(configuration)
        logger.info("written")
        let text = String(decoding: try SmallFile.read(folder.path + "/log", atMost: 1 << 20), as: UTF8.self)
        #expect(text.hasSuffix(" [vm] written\n") && text.split(separator: "\n").count == 1)
    }

    @Test func aLineIsBoundedAndHasNoControlCharacters() throws {
        let lines = try lines(.info) { logger in
            logger.info("a\nb\u{1b}[2Jc\u{7f}d\u{9b}e\u{0}")
            logger.info("\(String(repeating: "x", count: 100_000))")
            logger.info("\(String(repeating: "\u{e9}", count: 100_000))")
        }
        #expect(lines.first == "[vm:Info] a?b?[2Jc?d?e?")
        #expect(lines.count == 3)
        #expect(lines.dropFirst().allSatisfy { $0.utf8.count == "[vm:Info] ".utf8.count + 500 })
    }

    @Test func metadataAndErrorsFollowTheMessage() throws {
        let lines = try lines(.info) { logger in
            var logger = logger
            logger[metadataKey: "vcpu"] = "1"
            logger.info("paused", metadata: ["by": "a\nclient"])
            logger.error("not started", error: VMMError.user("no kernel"))
        }
        #expect(lines == ["[vm:Info] paused by=a?client vcpu=1", "[vm:Error] not started: no kernel vcpu=1"])
    }

    @Test func whatIsNotWrittenIsNotFormatted() throws {
        var count = 0
        func text() -> String {
            count += 1
            return "x"
        }
        _ = try lines(.warning) { logger in
            logger.info("\(text())")
            logger.error("\(text())")
        }
        #expect(count == 1)
    }
}
