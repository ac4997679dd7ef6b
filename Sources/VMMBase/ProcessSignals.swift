// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// What becomes of the signals whose default action ends the process (signal(7)).
///
/// | Signals | Action |
/// | --- | --- |
/// | SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU | `SignalWatcher` ends the VM |
/// | SIGXFSZ, SIGPIPE | ignored: the call returns an error, which its caller handles |
/// | SIGUSR1 | the engine's own, for vCPU threads; elsewhere ignored |
/// | SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT, SIGPWR, real-time signals | ignored: nobody who sends one wants to end a VM |
/// | SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS | default: a fault of the process itself |
package enum ProcessSignals {
    /// Ignores SIGXFSZ: a write beyond RLIMIT_FSIZE, or beyond the file system's largest file, fails with EFBIG. Every command does this.
    package static func ignoreFileSizeSignal() {
        _ = signal(SIGXFSZ, SIG_IGN)
    }

    /// Ignores the signals that do not ask for the VM's end. Call it before the engine installs its handler for SIGUSR1.
    package static func ignoreStrays() {
        ignoreFileSizeSignal()
        let named = [SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT, SIGPWR]
        // 32 and 33 are the C library's own; signal(2) refuses them.
        for number in named + Array(34...64) { _ = signal(number, SIG_IGN) }
    }
}
