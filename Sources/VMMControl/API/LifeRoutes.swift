// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI
internal import VMMBase
internal import VMMModel

/// The resources that begin, hold and end a machine's run.
///
///     PUT /actions {"action_type": "InstanceStart"}    builds the machine and lets it begin
///     PUT /actions {"action_type": "SendCtrlAltDel"}   asks the guest to power off, and so does our own word Stop
///     PUT /actions {"action_type": "Stop", "timeout_seconds": 30}   the same; ends the run when the guest cannot be asked or does not obey in time
///     PUT /actions {"action_type": "Kill"}             ends the run at once
///     PUT /actions {"action_type": "FlushMetrics"}     writes a line of metrics now
///     PATCH /vm {"state": "Paused"}, {"state": "Resumed"}
enum LifeRoutes {
    private static let actions = ["InstanceStart", "SendCtrlAltDel", "FlushMetrics", "Stop", "Kill"]

    /// Longest time that a guest may be given to power off, in seconds: a day.
    private static let longestTimeout = 86_400

    /// The routes onto a machine.
    ///
    /// - Parameter flushMetrics: writes the metrics to where `PUT /metrics` said.
    static func routes(for machine: any MachineControl, flushMetrics: @escaping @Sendable () throws(ControlError) -> Void) -> [APIRoute] {
        let stopper = MachineStopper(machine)
        return [
            APIRoute(.patch, "/vm") { request throws(APIError) in try changeState(of: machine, request) },
            APIRoute(.put, "/actions") { request throws(APIError) in try act(on: machine, stopper, request, flushMetrics) },
        ]
    }

    private static func changeState(of machine: any MachineControl, _ request: APIRequest) throws(APIError) -> APIResponse {
        let state = try request.read { (fields) throws(ControlError) in
            let word = try fields.requiredString("state")
            guard word == "Paused" || word == "Resumed" else {
                throw .usage("\(fields.name("state")): '\(word)' is not a state: give Paused or Resumed")
            }
            return word
        }
        let now = machine.state
        guard now == .running || now == .paused else {
            throw APIError(400, "the VM cannot be paused or resumed: it is \(now.rawValue.lowercased())")
        }
        if state == "Paused" { machine.pause() } else { machine.resume() }
        return .noContent
    }

    private static func act(
        on machine: any MachineControl, _ stopper: MachineStopper, _ request: APIRequest, _ flushMetrics: () throws(ControlError) -> Void
    ) throws(APIError) -> APIResponse {
        let (action, timeout) = try request.read { (fields) throws(ControlError) in
            let action = try fields.requiredString("action_type")
            guard actions.contains(action) else {
                throw .usage(
                    "\(fields.name("action_type")): '\(action)' is not an action: give one of \(actions.joined(separator: ", "))")
            }
            let timeout = try fields.integer("timeout_seconds", 0...longestTimeout)
            guard timeout == nil || action == "Stop" else { throw .usage("\(fields.name("timeout_seconds")): for Stop only") }
            return (action, timeout)
        }
        switch action {
        case "InstanceStart": try start(machine)
        case "FlushMetrics": try flush(flushMetrics)
        case "Kill": machine.kill()
        default:
            if let timeout, machine.state == .running || machine.state == .paused {
                stopper.stop(within: UInt32(timeout))
            } else {
                try ask(machine)
            }
        }
        return .noContent
    }

    private static func flush(_ flushMetrics: () throws(ControlError) -> Void) throws(APIError) {
        do throws(ControlError) {
            try flushMetrics()
        } catch {
            throw APIError(error)
        }
    }

    private static func start(_ machine: any MachineControl) throws(APIError) {
        guard machine.state == .notStarted else { throw APIError(400, "the VM has been started") }
        do throws(MachineError) {
            try machine.start()
        } catch {
            throw APIError(400, error.description)
        }
    }

    /// Firecracker presses keys for this; here the power button carries the wish, for there is no keyboard.
    private static func ask(_ machine: any MachineControl) throws(APIError) {
        guard machine.state == .running else {
            throw APIError(400, "the guest cannot be asked: the VM is \(machine.state.rawValue.lowercased())")
        }
        guard machine.requestPowerOff() else {
            throw APIError(400, "the guest does not listen to the power button: use Kill to end it")
        }
    }
}
