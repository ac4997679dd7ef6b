// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc

/// Takes the signals that end a process on a thread of its own, where any call may be made.
package final class SignalWatcher: Sendable {
    /// What the user wants.
    package enum Request: Sendable, Equatable {
        /// SIGINT: Ctrl-C.
        case interrupt
        /// SIGTERM or SIGQUIT.
        case terminate
        /// SIGHUP: the terminal is gone, or the login session ends.
        case hangUp
    }

    private static let numbers = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]

    /// Blocks the signals for this thread and all that it starts, and ignores SIGPIPE. To be called first, before any other thread exists.
    ///
    /// A SIGHUP that nohup(1) has had ignored stays so: blocked, it would be delivered all the same.
    package static func blockSignals() {
        var signals = set()
        if ignoresHangUp { unsafe sigdelset(&signals, SIGHUP) }
        // SAFETY: the call reads only the variable.
        _ = unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        _ = signal(SIGPIPE, SIG_IGN)
    }

    /// Starts to watch. `received` is called on the watcher's thread, with the number of signals so far, from 1.
    package init(_ received: @escaping @Sendable (Request, Int) -> Void) throws(KVMError) {
        _ = try Thread(name: "signals") {
            var signals = SignalWatcher.set()
            var count = 0
            while true {
                var number: Int32 = 0
                // SAFETY: the call reads and writes only the variables.
                guard unsafe sigwait(&signals, &number) == 0 else { continue }
                count += 1
                received(number == SIGINT ? .interrupt : number == SIGHUP ? .hangUp : .terminate, count)
            }
        }
    }

    private static var ignoresHangUp: Bool {
        var action = sigaction()
        // SAFETY: the call reads nothing and writes only the variable; an ignored signal has no handler with three arguments.
        guard unsafe sigaction(SIGHUP, nil, &action) == 0 else { return false }
        return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
    }

    private static func set() -> sigset_t {
        var signals = sigset_t()
        // SAFETY: the calls write only the variable.
        unsafe sigemptyset(&signals)
        for number in numbers { unsafe sigaddset(&signals, number) }
        return signals
    }
}
