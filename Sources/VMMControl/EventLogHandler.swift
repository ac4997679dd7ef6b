// SPDX-License-Identifier: Apache-2.0

internal import Logging

/// A swift-log handler that writes to the event log.
struct EventLogHandler: LogHandler {
    let eventLog: EventLog

    /// Fields that are added to each line.
    var metadata: Logger.Metadata = [:]

    /// The level of `PUT /logger`, common to all loggers. The setter has no effect.
    var logLevel: Logger.Level {
        get {
            switch eventLog.lowestLevel {
            // Logger has no level above critical; `log(event:)` drops critical events.
            case .off: .critical
            case .error: .error
            case .warning: .warning
            case .info: .info
            case .debug: .debug
            case .trace: .trace
            }
        }
        set {}
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        eventLog.write(
            EventLogHandler.level(event.level), module: event.source, origin: "\(event.file):\(event.line)", text(event))
    }

    private func text(_ event: LogEvent) -> String {
        let fields = metadata.merging(event.metadata ?? [:]) { _, new in new }.sorted { $0.key < $1.key }
        let parts = ["\(event.message)"] + (event.error.map { ["\($0)"] } ?? [])
        return parts.joined(separator: ": ") + fields.map { " \($0.key)=\($0.value)" }.joined()
    }

    /// Maps a Logger level to Firecracker's.
    private static func level(_ level: Logger.Level) -> EventLog.Level {
        switch level {
        case .critical, .error: .error
        case .warning: .warning
        case .notice, .info: .info
        case .debug: .debug
        case .trace: .trace
        }
    }
}
