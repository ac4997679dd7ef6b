// SPDX-License-Identifier: Apache-2.0

package import VMMBase

internal import Glibc

/// Receives termination signals on a thread of its own, so that the handler may make any call.
package final class SignalWatcher: Sendable {
    /// What the signal requests.
    package enum Request: Sendable, Equatable {
        /// SIGINT: Ctrl-C.
        case interrupt
        /// SIGTERM or SIGQUIT.
        case terminate
        /// SIGHUP: the terminal was closed, or the login session ended. SIGXCPU: the process has used the processor time of RLIMIT_CPU; the kernel
        /// repeats it each second, and kills the process at the hard limit.
        case hangUp
    }

    private static let numbers = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU]

    /// Blocks the signals for this thread and all threads that it creates, and ignores those that do not ask for the VM's end
    /// (`ProcessSignals`). Call it before any other thread exists.
    ///
    /// Does not block SIGHUP if it is ignored, as under nohup(1): sigwait(3) would return a blocked signal even if it is ignored.
    package static func blockSignals() {
        var signals = set()
        if ignoresHangUp { unsafe sigdelset(&signals, SIGHUP) }
        // SAFETY: the call reads only the variable.
        _ = unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        ProcessSignals.ignoreStrays()
    }

    /// Starts the thread, which runs until the process exits. It calls `received` with each request, its signal, and the number of signals so far,
    /// from 1.
    package init(_ received: @escaping @Sendable (Request, Int32, Int) -> Void) throws(VMMError) {
        _ = try Thread(.signals) {
            var signals = SignalWatcher.set()
            var count = 0
            while true {
                var number: Int32 = 0
                // SAFETY: the call reads and writes only the variables.
                guard unsafe sigwait(&signals, &number) == 0 else { continue }
                count += 1
                received(number == SIGINT ? .interrupt : number == SIGHUP || number == SIGXCPU ? .hangUp : .terminate, number, count)
            }
        }
    }

    /// Ends the process by a signal, as if it had no handler.
    package static func die(of number: Int32) -> Never {
        var signals = sigset_t()
        _ = signal(number, SIG_DFL)
        // SAFETY: the calls read and write only the variable.
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, number)
        _ = unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
        raise(number)
        // Only a signal whose default action does not end the process comes here.
        exit(128 + number)
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
