// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The signals that the parent of a jail passes on: those at which symvmm ends a VM.
struct JailSignals {
    private var set = sigset_t()

    /// Blocks them, and SIGCHLD. Leaves SIGHUP if it is ignored, as under nohup(1): a blocked signal would be received even if it is ignored.
    init() {
        var action = sigaction()
        // SAFETY: the calls write only the variables; an ignored signal has no handler with three arguments.
        unsafe sigaction(SIGHUP, nil, &action)
        let isIgnored = unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
        unsafe sigemptyset(&set)
        for number in [SIGCHLD, SIGINT, SIGTERM, SIGQUIT] + (isIgnored ? [] : [SIGHUP]) { unsafe sigaddset(&set, number) }
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
        // A parent that ignores SIGCHLD would get no exit status.
        signal(SIGCHLD, SIG_DFL)
    }

    /// Waits for a signal. Returns its number if it is to be passed on: not SIGCHLD, and none that the terminal sends, since the program gets that
    /// one, too.
    func next() -> Int32? {
        var set = set
        var information = unsafe siginfo_t()
        // SAFETY: the call reads and writes only the variables.
        let number = unsafe sigwaitinfo(&set, &information)
        // SI_KERNEL.
        let isFromTerminal = unsafe information.si_code == 0x80
        return number > 0 && number != SIGCHLD && !isFromTerminal ? number : nil
    }
}
