// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Takes the signals that end a process on a thread of its own, where any call may be made.
public final class SignalWatcher: Sendable {
    /// What the user wants.
    public enum Request: Sendable, Equatable {
        /// SIGINT: Ctrl-C.
        case interrupt
        /// SIGTERM, SIGHUP or SIGQUIT.
        case terminate
    }

    private static let numbers = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]

    /// Blocks the signals for this thread and all that it starts, and ignores SIGPIPE. To be called first, before any other thread exists.
    public static func blockSignals() {
        var signals = set()
        // SAFETY: the call reads only the variable.
        _ = unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        _ = signal(SIGPIPE, SIG_IGN)
    }

    /// Starts to watch. `received` is called on the watcher's thread, with the number of signals so far, from 1.
    public init(_ received: @escaping @Sendable (Request, Int) -> Void) throws(KVMError) {
        _ = try Thread(name: "signals") {
            var signals = SignalWatcher.set()
            var count = 0
            while true {
                var number: Int32 = 0
                // SAFETY: the call reads and writes only the variables.
                guard unsafe sigwait(&signals, &number) == 0 else { continue }
                count += 1
                received(number == SIGINT ? .interrupt : .terminate, count)
            }
        }
    }

    private static func set() -> sigset_t {
        var signals = sigset_t()
        // SAFETY: the calls write only the variable.
        unsafe sigemptyset(&signals)
        for number in numbers { unsafe sigaddset(&signals, number) }
        return signals
    }
}
