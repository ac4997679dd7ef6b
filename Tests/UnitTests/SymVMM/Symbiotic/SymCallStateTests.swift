// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM

/// The transitions of the symcall engine, without KVM.
@Suite struct SymCallStateTests {
    /// Every transition, with one set of arguments each.
    private enum Transition: CaseIterable {
        case open, beginCompletingExit, endCompletingExit, save, recordHalt, startHandler, recordHandlerEnd, abort
        case saveAllRegistersWhileAborting, finishHandler, close

        /// Makes the transition; false if the state machine refuses it.
        func make(_ machine: inout SymCallStateMachine) -> Bool {
            switch self {
            case .open: machine.open(.doorbell)
            case .beginCompletingExit: machine.beginCompletingExit()
            case .endCompletingExit: machine.endCompletingExit()
            case .save: machine.save(.general)
            case .recordHalt: machine.recordHalt()
            case .startHandler: machine.startHandler()
            case .recordHandlerEnd: machine.recordHandlerEnd(.returned)
            case .abort: machine.abort()
            case .saveAllRegistersWhileAborting: machine.saveAllRegistersWhileAborting()
            case .finishHandler: machine.finishHandler()
            case .close: machine.close() != nil
            }
        }
    }

    private func machine(after path: [Transition]) -> SymCallStateMachine {
        var machine = SymCallStateMachine()
        for transition in path {
            let isMade = transition.make(&machine)
            #expect(isMade, "\(transition) of \(path)")
        }
        return machine
    }

    /// For each state, a path to it and the transitions that it allows.
    private static let states: [(path: [Transition], allowed: Set<Transition>)] = [
        ([], [.open]),
        ([.open], [.beginCompletingExit, .save, .recordHalt, .close]),
        ([.open, .beginCompletingExit], [.endCompletingExit]),
        ([.open, .save], [.recordHalt, .startHandler, .close]),
        ([.open, .save, .startHandler], [.recordHandlerEnd, .abort, .finishHandler]),
        ([.open, .save, .startHandler, .recordHandlerEnd], [.finishHandler]),
        ([.open, .save, .startHandler, .abort], [.saveAllRegistersWhileAborting, .finishHandler]),
        ([.open, .save, .startHandler, .abort, .saveAllRegistersWhileAborting], [.finishHandler]),
        ([.open, .save, .startHandler, .recordHandlerEnd, .finishHandler], [.startHandler, .close]),
        ([.open, .save, .close], [.open]),
    ]

    @Test func eachStateAllowsItsTransitionsAndRefusesTheOthers() {
        for (path, allowed) in SymCallStateTests.states {
            for transition in Transition.allCases {
                var machine = self.machine(after: path)
                let before = machine.state
                let isMade = transition.make(&machine)
                #expect(isMade == allowed.contains(transition), "\(transition) after \(path)")
                if !isMade { #expect(machine.state == before, "\(transition) after \(path) was refused and changed the state") }
            }
        }
    }

    @Test func aSessionRemembersWhatItHasToRestore() {
        var machine = SymCallStateMachine()
        #expect(machine.state.session == nil)
        let made = [
            machine.open(.request), machine.recordHalt(), machine.save(.all), machine.startHandler(), machine.recordHandlerEnd(.faulted),
        ]
        #expect(made.allSatisfy { $0 })
        let session = SymCallSession(trigger: .request, savedRegisters: .all, hasRunHandler: true, wasHalted: true)
        #expect(machine.state == .handlerEnded(session, .faulted))
        let isFinished = machine.finishHandler()
        let closed = machine.close()
        #expect(isFinished && closed == session)
        #expect(machine.state == .idle)
    }

    @Test func aSessionWithoutASymcallRestoresNothing() {
        var machine = self.machine(after: [.open, .save])
        let closed = machine.close()
        #expect(closed?.hasRunHandler == false)
    }

    @Test func noRegistersCannotBeSaved() {
        var machine = self.machine(after: [.open])
        let isSaved = machine.save(.none)
        #expect(!isSaved)
    }

    @Test func anAbortedFastDoorbellRestoresAllRegisters() {
        var machine = self.machine(after: [.open, .save, .startHandler, .abort, .saveAllRegistersWhileAborting, .finishHandler])
        let closed = machine.close()
        #expect(closed?.savedRegisters == .all)
    }

    @Test func theAdvanceOfADoorbellIsKnownOnlyWhileItIsAlwaysTheSame() {
        var advance = DoorbellAdvance()
        #expect(advance.byteCount == nil)
        advance.learn(2)
        #expect(advance.byteCount == 2)
        advance.learn(2)
        #expect(advance.byteCount == 2)
        advance.learn(0)
        #expect(advance.byteCount == nil)
        advance.learn(2)
        #expect(advance.byteCount == nil, "it varied once")
        var impossible = DoorbellAdvance()
        impossible.learn(3)
        #expect(impossible.byteCount == nil)
    }

    @Test func aDeadlineExpiresForOneCallOnly() {
        let deadline = SymCallDeadline()
        let first = deadline.start()
        let running = deadline.current
        deadline.expire(first)
        let hasExpired = deadline.hasExpired(first)
        deadline.stop()
        let stopped = deadline.current
        let second = deadline.start()
        let hasSecondExpired = deadline.hasExpired(second)
        #expect(running == first && hasExpired && stopped == 0)
        #expect(second != first && !hasSecondExpired)
    }

    @Test func anIdleEngineIgnoresHandlerEndsWhileKVMCompletesAnExit() throws {
        let interface = SymbioticInterface(memory: try GuestMemory(byteCount: 4 << 20), interrupt: try InterruptLine(unconnected: 3))
        let engine = try SymCallEngine(interface: interface, watchdog: try SymCallWatchdog(), tasks: try TaskRecorder())
        #expect(engine.isIdle)
        let (isRecorded, isOpen, state) = engine.completingExit {
            (engine.stateMachine.recordHandlerEnd(.returned), engine.stateMachine.open(.doorbell), engine.stateMachine.state)
        }
        #expect(!isRecorded && !isOpen)
        #expect(state == .completingExit(SymCallSession(trigger: .snapshot)))
        #expect(engine.isIdle)
    }

    @Test func theQueueKeepsTheOrderAndForgetsWhatIsWithdrawn() throws {
        let queue = SymCallQueue()
        let requests = try (0..<4).map { try SymCallRequest($0, SymCallValues()) }
        for request in requests { queue.append(request) }
        queue.remove(requests[1])
        let first = queue.takeFirst()
        let others = queue.takeAll()
        let (isEmpty, none) = (queue.isEmpty, queue.takeFirst())
        #expect(first === requests[0])
        #expect(others.map(\.number) == [2, 3])
        #expect(isEmpty && none == nil)
    }

    @Test func onlyTheFirstResponseCounts() throws {
        let request = try SymCallRequest(1, SymCallValues(7))
        #expect(request.wait(timeoutMilliseconds: 0) == nil)
        request.complete(.failure(.nested))
        request.complete(.success(SymCallValues()), fromUserMode: true)
        let response = request.wait(timeoutMilliseconds: 0)
        #expect(response?.result == .failure(.nested))
        #expect(response?.fromUserMode == false)
    }
}
