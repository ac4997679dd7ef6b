// SPDX-License-Identifier: Apache-2.0

internal import VMMBase
internal import VMMModel

/// Presses the power button. Kills the VM if the guest does not power off in time; kills it at once if it is not running or the guest has not
/// enabled the button.
///
/// One for each VM, with one thread, which is made with the object and ends with it. With several deadlines, the earliest counts. Thread-safe.
final class MachineStopper: Sendable {
    private struct State {
        /// Nanoseconds of CLOCK_MONOTONIC.
        var deadline = UInt64.max
        var isEnding = false
    }

    private let machine: any MachineControl
    private let state: Monitor<State>

    /// Makes the thread, which sleeps until a VM is to be stopped.
    init(_ machine: any MachineControl) throws(VMMError) {
        self.machine = machine
        let state = Monitor(State())
        self.state = state
        _ = try Thread(.stopper) { [weak machine] in
            while let deadline = MachineStopper.nextDeadline(state) {
                let isEarlier = state.wait(until: deadline) { $0.isEnding || $0.deadline < deadline ? true : nil }
                guard isEarlier == nil else { continue }
                state.withLock { $0.deadline = .max }
                machine?.kill()
            }
        }
    }

    deinit {
        state.update { $0.isEnding = true }
    }

    /// Waits for a deadline; nil when the thread is to end.
    private static func nextDeadline(_ state: Monitor<State>) -> UInt64? {
        state.wait { state -> UInt64?? in
            if state.isEnding { return .some(nil) }
            return state.deadline == .max ? nil : .some(state.deadline)
        }
    }

    /// Presses the power button and kills the VM after `seconds`. Does not wait.
    func stop(within seconds: UInt32) {
        guard machine.state == .running, machine.requestPowerOff() else { return machine.kill() }
        let deadline = TickClock.monotonicNanoseconds() &+ UInt64(seconds) &* 1_000_000_000
        state.update { $0.deadline = min($0.deadline, deadline) }
    }
}
