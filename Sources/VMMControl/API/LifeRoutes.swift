// SPDX-License-Identifier: Apache-2.0

internal import SymVMM
internal import VMMAPI
internal import VMMBase
internal import VMMModel

/// The routes that start, pause and end a run.
///
///     PUT /actions {"action_type": "InstanceStart"}    builds and starts the machine
///     PUT /actions {"action_type": "SendCtrlAltDel"}   types Ctrl-Alt-Del or presses the power button; the latter does Stop, which Firecracker does not have
///     PUT /actions {"action_type": "Stop", "timeout_seconds": 30}   the same; kills the VM if the guest does not power off in time
///     PUT /actions {"action_type": "Kill"}             kills the VM
///     PUT /actions {"action_type": "FlushMetrics"}     writes a metrics line
///     PATCH /vm {"state": "Paused"}, {"state": "Resumed"}
enum LifeRoutes {
    /// Maximum timeout for a power-off in seconds: one day.
    private static let longestTimeout = 86_400

    /// Creates the routes.
    ///
    /// - Parameters:
    ///   - stopper: kills the VM if it does not power off in time.
    ///   - style: whose texts errors have.
    ///   - flushMetrics: writes a metrics line to the file of `PUT /metrics`.
    static func routes(
        for machine: any MachineControl, stopper: MachineStopper, style: APIStyle = .own,
        flushMetrics: @escaping @Sendable () throws(VMMError) -> Void
    ) -> [APIRoute] {
        [
            APIRoute(.patch, "/vm", lane: .life) { request throws(APIError) in try changeState(of: machine, style, request) },
            APIRoute(.put, "/actions", lane: .life, isLong: isLong) { request throws(APIError) in
                try act(on: machine, stopper, style, request, flushMetrics)
            },
        ]
    }

    /// Whether the action reads or writes files.
    private static func isLong(_ request: APIRequest) -> Bool {
        guard let received: Received<ActionResource> = try? request.body() else { return false }
        return received.action == .instanceStart || received.action == .flushMetrics
    }

    private static func changeState(of machine: any MachineControl, _ style: APIStyle, _ request: APIRequest) throws(APIError)
        -> APIResponse
    {
        let requested = try request.body(VMStateResource.self).state
        let now = machine.state
        guard now == .running || now == .paused else {
            let own = "the VM cannot be paused or resumed: it is \(now.rawValue.lowercased())"
            throw APIError(400, now == .notStarted ? style.tooEarly(own) : own)
        }
        if requested == .resumed {
            machine.resume()
        } else if !machine.pause() {
            guard machine.state == .running else { throw APIError(400, "the VM is not paused: it has ended") }
            throw APIError(503, "the VM is not paused: a vCPU did not stop within 20 s, or another client has resumed the VM")
        }
        return .noContent
    }

    private static func act(
        on machine: any MachineControl, _ stopper: MachineStopper, _ style: APIStyle, _ request: APIRequest,
        _ flushMetrics: () throws(VMMError) -> Void
    ) throws(APIError) -> APIResponse {
        let received: Received<ActionResource> = try request.body()
        let timeout = try timeout(received)
        switch received.action {
        case .instanceStart: try start(machine, style)
        case .flushMetrics:
            if style == .firecracker, machine.state == .notStarted { throw APIError(400, style.tooEarly("")) }
            try flush(flushMetrics)
        case .kill: machine.kill()
        case .stop, .sendCtrlAltDel:
            if let timeout, machine.state == .running || machine.state == .paused {
                stopper.stop(within: UInt32(timeout))
            } else {
                // Firecracker's machine has a keyboard.
                let typed =
                    received.action == .sendCtrlAltDel && machine.state == .running
                    && machine.virtualMachine?.sendControlAltDelete() == true
                if !typed { try pressPowerButton(machine, style) }
            }
        }
        return .noContent
    }

    private static func timeout(_ received: Received<ActionResource>) throws(APIError) -> Int? {
        do throws(VMMError) {
            let timeout = try received.integer(.timeout, received.timeout, in: 0...longestTimeout)
            guard timeout == nil || received.action == .stop else { throw .user("\(received.place(of: .timeout)): only for Stop") }
            return timeout
        } catch {
            throw APIError(error)
        }
    }

    private static func flush(_ flushMetrics: () throws(VMMError) -> Void) throws(APIError) {
        do throws(VMMError) {
            try flushMetrics()
        } catch {
            throw APIError(error)
        }
    }

    private static func start(_ machine: any MachineControl, _ style: APIStyle) throws(APIError) {
        guard machine.state == .notStarted else {
            throw APIError(400, style == .firecracker ? style.tooLate : "the VM has been started")
        }
        do throws(VMMError) {
            try machine.start()
        } catch {
            throw APIError(400, error.description)
        }
    }

    /// Without a keyboard, or a driver for it in the guest, SendCtrlAltDel presses the power button.
    private static func pressPowerButton(_ machine: any MachineControl, _ style: APIStyle) throws(APIError) {
        guard machine.state == .running else {
            let own = "the power button has no effect: the VM is \(machine.state.rawValue.lowercased())"
            throw APIError(400, machine.state == .notStarted ? style.tooEarly(own) : own)
        }
        guard machine.requestPowerOff() else {
            throw APIError(400, "the guest has not enabled the power button: use Kill")
        }
    }
}
