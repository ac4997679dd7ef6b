// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Logging
internal import Synchronization
internal import VMMBase

/// The log of `PUT /logger`: one line for each event of the VM and each request. Callers write to it through `logger`.
///
/// Any thread except vCPU threads may write. Never blocks: a line that cannot be written (a FIFO without a reader, a full disk) is dropped and
/// counted. A line has at most 500 bytes of text, without control characters.
final class EventLog: Sendable {
    typealias Level = LoggerConfiguration.Level

    private struct State: ~Copyable {
        var configuration = LoggerConfiguration()
        var file: OwnedFileDescriptor?
        var droppedLineCount: UInt64 = 0
    }

    private let name: String
    private let state = Mutex(State())
    /// Index of the configured level in `Level.allCases`. A line of a more verbose level costs one load: no lock, no formatting.
    private let level = Atomic<Int>(0)

    /// Creates a log without a file.
    ///
    /// - Parameter name: the VM's name, which begins each line.
    init(name: String) {
        self.name = name
    }

    /// A logger that writes to this log.
    var logger: Logger {
        Logger(label: name) { _ in EventLogHandler(eventLog: self) }
    }

    /// Opens the file, if the path is new, and sets the level. On an error nothing changes. One thread at a time.
    func configure(_ configuration: LoggerConfiguration) throws(VMMError) {
        var opened: OwnedFileDescriptor?
        // Without the lock: a file system may be slow, and whoever writes a line does not wait for it.
        if let path = configuration.path, path != state.withLock({ $0.configuration.path }) {
            opened = try FileThread.perform { () throws(VMMError) in try OwnedFileDescriptor.openForAppending(path) }
        }
        state.withLock { state in
            if let file = opened.take() { state.file = consume file }
            state.configuration = configuration
            let isOpen = state.file != nil
            level.store(isOpen ? Level.allCases.firstIndex(of: configuration.level) ?? 0 : 0, ordering: .relaxed)
        }
    }

    /// Whether a level is enabled.
    func isWritten(_ level: Level) -> Bool {
        (Level.allCases.firstIndex(of: level) ?? 0) <= self.level.load(ordering: .relaxed)
    }

    /// The most verbose enabled level; `off` if none is.
    var lowestLevel: Level {
        Level.allCases[level.load(ordering: .relaxed)]
    }

    /// Writes a line if its level is enabled, and its module is one that is written.
    ///
    /// - Parameters:
    ///   - module: the module that writes.
    ///   - origin: its source file and line.
    func write(_ level: Level, module: String = "VMMControl", origin: String = "", _ text: @autoclosure () -> String) {
        guard isWritten(level) else { return }
        let text = EventLog.plain(text())
        state.withLock { state in
            guard let number = state.file?.rawValue, module.hasPrefix(state.configuration.module ?? "") else { return }
            var mark = state.configuration.showsLevel ? "\(name):\(level.rawValue)" : name
            if state.configuration.showsOrigin, !origin.isEmpty { mark += ":\(origin)" }
            let line = Array("\(EventLog.time()) [\(mark)] \(text)\n".utf8)
            let count = unsafe line.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the array's, which lives for the call.
                unsafe Glibc.write(number, buffer.baseAddress, buffer.count)
            }
            if count != line.count { state.droppedLineCount &+= 1 }
        }
    }

    /// Number of dropped lines.
    var droppedLineCount: UInt64 {
        state.withLock { $0.droppedLineCount }
    }

    /// Bounds a text to 500 bytes and strips control characters.
    private static func plain(_ text: String) -> String {
        String(decoding: String(text.unicodeScalars.prefix(500)).printable.utf8.prefix(500), as: UTF8.self)
    }

    /// The time in UTC, as 2026-01-31T23:59:59.123.
    private static func time() -> String {
        let now = CalendarTime.now()
        let time = CalendarTime(secondsSince1970: now.seconds)
        func digits(_ number: Int, _ width: Int) -> String {
            let text = "\(number)"
            return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
        }
        let date = "\(time.year)-\(digits(time.month, 2))-\(digits(time.day, 2))"
        let clock = "\(digits(time.hour, 2)):\(digits(time.minute, 2)):\(digits(time.second, 2))"
        return "\(date)T\(clock).\(digits(now.nanoseconds / 1_000_000, 3))"
    }
}
