// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase
internal import VMMModel

/// Asks a guest to power off, and ends the run when it cannot be asked or has not obeyed in time.
///
/// However often it is asked, it has one thread at most; the earliest deadline counts. Any thread.
final class MachineStopper: Sendable {
    private struct State {
        /// Milliseconds of CLOCK_MONOTONIC.
        var deadline = UInt64.max
        var hasThread = false
    }

    private let machine: any MachineControl
    private let state = Mutex(State())

    init(_ machine: any MachineControl) {
        self.machine = machine
    }

    /// Presses the power button; `seconds` later the run is ended. Does not wait.
    func stop(within seconds: UInt32) {
        guard machine.state == .running, machine.requestPowerOff() else { return machine.kill() }
        let deadline = MachineStopper.now() &+ UInt64(seconds) &* 1000
        let hasThread = state.withLock { state in
            state.deadline = min(state.deadline, deadline)
            if !state.hasThread { state.hasThread = (try? Thread(name: "grace") { [self] in run() }) != nil }
            return state.hasThread
        }
        if !hasThread { machine.kill() }
    }

    private func run() {
        while machine.state != .ended {
            let deadline = state.withLock { $0.deadline }
            let now = MachineStopper.now()
            guard now < deadline else { return machine.kill() }
            usleep(useconds_t(min(deadline &- now, 50) &* 1000))
        }
    }

    private static func now() -> UInt64 {
        var time = timespec()
        // SAFETY: the call writes only the variable.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1000 &+ UInt64(time.tv_nsec) / 1_000_000
    }
}
