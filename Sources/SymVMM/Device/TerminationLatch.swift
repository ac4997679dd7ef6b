// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase
internal import VMMModel

/// The end of a machine's run: whoever comes first says how it ended. Any thread.
final class TerminationLatch: Sendable {
    private let outcome = Mutex<TerminationReason?>(nil)
    private let notifier: EventNotifier

    init() throws(KVMError) {
        notifier = try EventNotifier()
    }

    /// Ends the run, unless it has ended already.
    func end(_ how: TerminationReason) {
        let isFirst = outcome.withLock { outcome in
            guard outcome == nil else { return false }
            outcome = how
            return true
        }
        if isFirst { notifier.signal() }
    }

    /// How the run ended, or nil while it goes on.
    var current: TerminationReason? {
        outcome.withLock { $0 }
    }

    /// Waits for the end. Several threads may wait, one after the other.
    func wait() -> TerminationReason {
        while true {
            if let outcome = current { return outcome }
            // Signalled again for the next one who waits.
            if notifier.drain() > 0 { notifier.signal() }
        }
    }
}
