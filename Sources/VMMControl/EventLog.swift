// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase

/// The log of `PUT /logger`: a line for each event of the VM's life and each request, to a file or a FIFO.
///
/// Any thread but a vCPU's may write. A line that finds no room (a FIFO that nobody reads, a full disk) is dropped and counted; nobody waits.
final class EventLog: Sendable {
    typealias Level = LoggerConfiguration.Level

    private struct State: ~Copyable {
        var configuration = LoggerConfiguration()
        var file: FileDescriptor?
        var droppedLineCount: UInt64 = 0
    }

    private let name: String
    private let state = Mutex(State())

    /// A log to nowhere.
    ///
    /// - Parameter name: the VM's, which each line begins with.
    init(name: String) {
        self.name = name
    }

    /// Opens the file and takes the level. On an error everything stays as it was.
    func configure(_ configuration: LoggerConfiguration) throws(KVMError) {
        let failure = state.withLock { state -> KVMError? in
            if let path = configuration.path, path != state.configuration.path {
                do throws(KVMError) {
                    state.file = try FileDescriptor.openForAppending(path)
                } catch {
                    return error
                }
            }
            state.configuration = configuration
            return nil
        }
        if let failure { throw failure }
    }

    /// Writes a line, when its level is wanted.
    func write(_ level: Level, _ text: @autoclosure () -> String) {
        state.withLock { state in
            guard level <= state.configuration.level, let number = state.file?.rawValue else { return }
            let mark = state.configuration.showsLevel ? "\(name):\(level.rawValue)" : name
            let line = Array("\(EventLog.time()) [\(mark)] \(EventLog.plain(text()))\n".utf8)
            let count = unsafe line.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the array's, which lives for the call.
                unsafe Glibc.write(number, buffer.baseAddress, buffer.count)
            }
            if count != line.count { state.droppedLineCount &+= 1 }
        }
    }

    /// Lines that found no room.
    var droppedLineCount: UInt64 {
        state.withLock { $0.droppedLineCount }
    }

    /// One line of at most 500 bytes without control characters, whatever a client has sent.
    private static func plain(_ text: String) -> String {
        let bytes = text.utf8.prefix(500).map { $0 < 0x20 || $0 == 0x7f ? UInt8(ascii: "?") : $0 }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// UTC to the millisecond, as 2026-01-31T23:59:59.123.
    private static func time() -> String {
        var now = timespec()
        // SAFETY: the calls read and write only the variables; the structure's pointer, a time zone's name, is not used.
        var parts = unsafe tm()
        _ = unsafe clock_gettime(CLOCK_REALTIME, &now)
        _ = unsafe gmtime_r(&now.tv_sec, &parts)
        func digits(_ number: Int, _ width: Int) -> String {
            let text = "\(number)"
            return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
        }
        let (year, month, day) = unsafe (Int(parts.tm_year) + 1900, Int(parts.tm_mon) + 1, Int(parts.tm_mday))
        let (hour, minute, second) = unsafe (Int(parts.tm_hour), Int(parts.tm_min), Int(parts.tm_sec))
        let date = "\(year)-\(digits(month, 2))-\(digits(day, 2))"
        let clock = "\(digits(hour, 2)):\(digits(minute, 2)):\(digits(second, 2))"
        return "\(date)T\(clock).\(digits(now.tv_nsec / 1_000_000, 3))"
    }
}
