// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// A terminal in raw mode. Restores the mode when it goes out of scope.
///
/// At most one per process. Handlers of fatal signals call `restoreAll()`.
package struct TerminalMode: ~Copyable, Sendable {
    private let number: Int32

    /// Switches a terminal to raw mode, but keeps output translation (newline to CR LF), which this process's own messages need.
    ///
    /// - Returns: nil if the descriptor is not a terminal, this process is in the background, or there is a `TerminalMode` already.
    package init?(_ number: Int32) {
        guard isatty(number) == 1, tcgetpgrp(number) == getpgrp() else { return nil }
        var mode = termios()
        // SAFETY: the calls read and write only the variable.
        guard unsafe tcgetattr(number, &mode) == 0 else { return nil }
        let saved = mode
        unsafe cfmakeraw(&mode)
        mode.c_oflag |= tcflag_t(OPOST)
        guard TerminalMode.claimed.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else {
            return nil
        }
        // SAFETY: written before `restorable` publishes it, and never while it is published.
        unsafe TerminalMode.saved = saved
        TerminalMode.restorable.store(number, ordering: .releasing)
        guard unsafe tcsetattr(number, TCSADRAIN, &mode) == 0 else {
            TerminalMode.restorable.store(-1, ordering: .releasing)
            TerminalMode.claimed.store(false, ordering: .releasing)
            return nil
        }
        TerminalMode.restoreOnFatalSignals()
        self.number = number
    }

    deinit {
        TerminalMode.restoreAll()
        TerminalMode.claimed.store(false, ordering: .releasing)
    }

    /// Restores the terminal if it is raw. Async-signal-safe, idempotent.
    package static func restoreAll() {
        let number = restorable.exchange(-1, ordering: .acquiringAndReleasing)
        guard number >= 0 else { return }
        // SAFETY: the saved mode was written before the descriptor was published, and tcsetattr is async-signal-safe (signal-safety(7)).
        _ = unsafe tcsetattr(number, TCSANOW, &saved)
    }

    private static let claimed = Atomic<Bool>(false)
    private static let restorable = Atomic<Int32>(-1)
    // SAFETY: written only by the one owner, before `restorable` publishes it.
    nonisolated(unsafe) private static var saved = termios()

    /// Restores the terminal on fatal signals.
    private static func restoreOnFatalSignals() {
        for signal in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP] {
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { number in
                TerminalMode.restoreAll()
                raise(number)
            }
            // SA_RESETHAND removes the handler before it runs, so that raise() ends the process as the original signal would.
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | Int32(SA_NODEFER)
            // SAFETY: the call copies the variable; the handler makes only async-signal-safe calls.
            _ = unsafe sigaction(signal, &action, nil)
        }
    }
}
