// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase
internal import VMMModel

/// Stores why a machine's run ended. Only the first reason is kept. Any thread.
final class TerminationLatch: Sendable {
    private let outcome = Mutex<TerminationReason?>(nil)
    private let notifier: EventNotifier

    init() throws(VMMError) {
        notifier = try EventNotifier()
    }

    /// Ends the run with this reason, unless it has already ended.
    func end(_ how: TerminationReason) {
        let isFirst = outcome.withLock { outcome in
            guard outcome == nil else { return false }
            outcome = how
            return true
        }
        if isFirst { notifier.signal() }
    }

    /// Why the run ended; nil while the machine runs.
    var current: TerminationReason? {
        outcome.withLock { $0 }
    }

    /// Waits until the run ends. Several threads may wait.
    func wait() -> TerminationReason {
        while true {
            if let outcome = current { return outcome }
            // Signals again, for the next waiting thread.
            if notifier.drain() > 0 { notifier.signal() }
        }
    }
}
