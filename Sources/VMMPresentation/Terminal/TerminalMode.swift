// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// A terminal in raw mode: every key goes to the guest. The owner restores the mode when it goes out of scope.
///
/// One at a time in a process: `restoreAll()` is what signal handlers and the last words of a process call.
package struct TerminalMode: ~Copyable, Sendable {
    private let number: Int32

    /// Switches a terminal to raw mode. Output is still translated (a newline returns the carriage), for a guest sends what a real terminal needs
    /// and the process' own messages do not.
    ///
    /// - Returns: nil when the descriptor is no terminal, or this process is in the background of it (the mode is then another's).
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
        // SAFETY: written before the flag below says that it is there, and never while it says so.
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

    /// Restores the terminal, when it is raw. Async-signal-safe; may be called at any time, more than once.
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

    /// A process that dies of its own fault leaves a usable terminal too.
    private static func restoreOnFatalSignals() {
        for signal in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP] {
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { number in
                TerminalMode.restoreAll()
                raise(number)
            }
            // The handler is gone when it is called, so that raise() ends the process as the fault would have.
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | Int32(SA_NODEFER)
            // SAFETY: the call copies the variable; the handler makes only async-signal-safe calls.
            _ = unsafe sigaction(signal, &action, nil)
        }
    }
}
