// SPDX-License-Identifier: Apache-2.0

package import SymVMM
package import VMMBase
package import VMMControl
package import VMMModel

internal import FoundationEssentials
internal import Glibc
internal import Synchronization
internal import VMMAPI
internal import VMMService

/// A VM whose guest a test can move into a new machine of the same process: `PUT /test-move`.
///
/// A move pauses the first machine, saves its state, copies its memory, and ends it with its threads and disks. Then it builds a second machine
/// from the same configuration and restores the state. Only test builds of symvmm have it.
package final class MovingMachine: MachineControl {
    private struct Life {
        var machine: VirtualMachine?
        var isMoving = false
        /// A move failed after the first machine had ended.
        var isLost = false
        var moves = 0
    }

    /// The machine of this process, for the route.
    private static let current = Mutex<MovingMachine?>(nil)

    /// The configuration of both machines.
    package let configuration: MachineConfiguration
    private let launch: LaunchConfiguration
    private let output: ConsoleOutput
    private let life: Mutex<Life>
    /// Signalled when a move has ended.
    private let moved: EventNotifier
    /// The request for a move, and its result.
    private let request = Monitor(Request())

    private struct Request {
        var isWaiting = false
        var result: Result<Move, VMMError>?
    }

    private init(_ machine: VirtualMachine, _ launch: LaunchConfiguration, _ output: ConsoleOutput) throws(VMMError) {
        configuration = launch.machine
        self.launch = launch
        self.output = output
        life = Mutex(Life(machine: machine))
        moved = try EventNotifier()
    }

    /// Makes the machine of `symvmm run` in a test build.
    package static func make(_ launch: LaunchConfiguration, _ output: ConsoleOutput, _ loading: LoadingLimit) throws(VMMError)
        -> any MachineControl
    {
        try TestCall.prepare()
        guard let machine = try VMController.makeMachine(launch, output, loading) as? VirtualMachine else {
            throw VMMError(.bug, "the builder makes no virtual machine")
        }
        let moving = try MovingMachine(machine, launch, output)
        // Made before the start. It builds the second machine after it, which needs calls that the sandbox takes from all threads of a VM.
        _ = try Thread(.testMover) { [weak moving] in
            while let moving { moving.serveRequest() }
        }
        current.withLock { $0 = moving }
        return moving
    }

    /// `PUT /test-move`: responds when the second machine runs.
    static let route = APIRoute(.put, "/test-move") { _ throws(APIError) in
        guard let machine = current.withLock({ $0 }) else { throw APIError(400, "the VM has not been started") }
        let move: Move
        do throws(VMMError) {
            move = try machine.move()
        } catch {
            throw APIError(error)
        }
        return try .json(move)
    }

    // MARK: The move

    /// The result of a move.
    package struct Move: Codable, Sendable {
        /// Moves so far, including this one.
        package let moves: Int
        /// Bytes of the state as JSON.
        package let stateByteCount: Int
    }

    /// Moves the guest, on the mover's thread.
    package func move() throws(VMMError) -> Move {
        request.update { request in
            request.isWaiting = true
            request.result = nil
        }
        return try request.wait { $0.result }.get()
    }

    private func serveRequest() {
        request.wait { request -> Bool? in
            defer { request.isWaiting = false }
            return request.isWaiting ? true : nil
        }
        do throws(VMMError) {
            let move = try moveHere()
            request.update { $0.result = .success(move) }
        } catch {
            request.update { $0.result = .failure(error) }
        }
    }

    private func moveHere() throws(VMMError) -> Move {
        life.withLock { $0.isMoving = true }
        defer {
            life.withLock { life in
                life.isMoving = false
                life.isLost = life.machine == nil
            }
            moved.signal()
        }
        let memory = try GuestMemory(byteCount: launch.machine.memoryByteCount)
        var services: [SymbioticService] = []
        for request in launch.services { services.append(try request.makeService()) }
        let (state, first) = try leave(into: memory, services)
        try MovingMachine.waitUntilGone(first)
        let second = try VirtualMachine(
            restorable: launch.machine, memory: memory, console: output, services: services, responder: VMController.responder(for: launch))
        try second.restoreState(MovingMachine.decode(state, for: second))
        try second.start()
        return life.withLock { life in
            life.machine = second
            life.moves += 1
            return Move(moves: life.moves, stateByteCount: state.count)
        }
    }

    /// Saves the first machine and ends it.
    private func leave(into memory: GuestMemory, _ services: [SymbioticService]) throws(VMMError) -> (Data, Gone) {
        guard let first = virtualMachine else { throw .user("the VM has ended") }
        first.pause()
        do throws(VMMError) {
            let state = try MovingMachine.encode(first.saveState())
            try memory.copy(from: first.memory)
            for (to, from) in zip(services, first.services) { try to.copyContents(from: from) }
            life.withLock { $0.machine = nil }
            first.kill()
            _ = first.wait()
            return (state, Gone(machine: first))
        } catch {
            first.resume()
            throw error
        }
    }

    private struct Gone {
        weak var machine: VirtualMachine?
    }

    /// Waits until no thread refers to the first machine. Its disks are locked until then.
    private static func waitUntilGone(_ first: Gone) throws(VMMError) {
        for _ in 0..<60_000 {
            if first.machine == nil { return }
            usleep(1000)
        }
        throw VMMError(.bug, "a thread still refers to the first machine")
    }

    private static func encode(_ state: SavedMachine) throws(VMMError) -> Data {
        do {
            return try JSONEncoder().encode(state)
        } catch {
            throw VMMError(.bug, "the state cannot be encoded: \(error)")
        }
    }

    private static func decode(_ data: Data, for machine: VirtualMachine) throws(VMMError) -> SavedMachine {
        let decoder = JSONDecoder()
        if let key = StateKinds.key { decoder.userInfo[key] = machine.stateKinds }
        do {
            return try decoder.decode(SavedMachine.self, from: data)
        } catch {
            throw VMMError(.bug, "the state cannot be decoded: \(error)")
        }
    }

    // MARK: Forwarded to the present machine

    /// The machine that runs the guest; nil during a move.
    package var virtualMachine: VirtualMachine? {
        life.withLock { $0.machine }
    }

    /// The machine's state.
    package var state: MachineState {
        virtualMachine?.state ?? .paused
    }

    /// Starts the first machine.
    package func start() throws(VMMError) {
        try virtualMachine?.start()
    }

    /// Pauses the vCPUs.
    @discardableResult
    package func pause() -> Bool {
        virtualMachine?.pause() ?? false
    }

    /// Resumes the vCPUs.
    @discardableResult
    package func resume() -> Bool {
        virtualMachine?.resume() ?? false
    }

    /// The warnings about the present machine.
    package var warnings: [String] {
        virtualMachine?.warnings ?? []
    }

    /// Presses the power button.
    package func requestPowerOff() -> Bool {
        virtualMachine?.requestPowerOff() ?? false
    }

    /// Ends the run.
    package func kill() {
        virtualMachine?.kill()
    }

    /// Waits until the last machine has ended.
    package func wait() -> TerminationReason {
        while true {
            let outcome = waitForMachine()
            let (isMoving, isLost) = life.withLock { ($0.isMoving, $0.isLost) }
            if isLost { return .killed }
            if let outcome, !isMoving { return outcome }
            moved.drain()
        }
    }

    /// Nil during a move.
    private func waitForMachine() -> TerminationReason? {
        virtualMachine?.wait()
    }

    /// The exits of the present machine.
    package func exitStatistics() -> ExitStatistics {
        virtualMachine?.exitStatistics() ?? ExitStatistics(uptimeNanoseconds: 0, rows: [], vcpus: [])
    }

    /// Sends a byte of the console's input to the guest.
    package func receive(_ byte: UInt8) -> Bool {
        virtualMachine?.receive(byte) ?? false
    }

    /// Replaces a drive's file.
    package func replaceFile(ofDrive id: String, with path: String) throws(VMMError) {
        try virtualMachine?.replaceFile(ofDrive: id, with: path)
    }
}
