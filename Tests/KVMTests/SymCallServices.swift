// SPDX-License-Identifier: Apache-2.0

import SymbioticABI
import Synchronization

@testable import SymVMM

/// Answers a doorbell with two PINGs.
final class DoorbellService: SymbioticService, @unchecked Sendable {
    /// Whether each doorbell's calls gave back what they were given. Read when the guest has said that it is done.
    private(set) var calls: [Bool] = []
    /// The last doorbell's arguments.
    private(set) var arguments: SymCallValues?

    /// Answers one doorbell.
    init(number: UInt8 = 0x30) {
        super.init(claims: ServiceClaims(name: "test", doorbells: number...number))
    }

    override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        arguments = values
        let other = SymCallValues(.max, 0, 1, UInt64(calls.count), 3)
        let first = try? vcpu.symcall(SYMBIOTIC_SYMCALL_PING, values)
        let second = try? vcpu.symcall(SymCallPuppet.Call.needsDoorbell, other)
        calls.append(first == values && second == other)
    }
}

/// Answers a doorbell with the symcalls that a test wants.
final class CallingService: SymbioticService, @unchecked Sendable {
    /// What to call. Set while the guest is idle.
    var numbers: [UInt32] = []
    /// What the last doorbell's calls ended with, and whether it was rung at the gate. Read when the guest has said that it is done.
    private(set) var errors: [SymCallError?] = []
    private(set) var isAtGate = false

    /// Answers one doorbell.
    init() {
        super.init(claims: ServiceClaims(name: "test", doorbells: 0x30...0x30))
    }

    override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        isAtGate = vcpu.symbiotic?.isAtGate == true
        errors = numbers.map { number in
            do throws(SymCallError) {
                _ = try vcpu.symcall(number, values)
                return nil
            } catch {
                return error
            }
        }
    }
}

/// What became of calls that several threads make.
final class CallsInFlight: Sendable {
    private let state = Mutex((count: 0, good: 0, isOver: false))

    /// Calls that came back.
    var count: Int { state.withLock { $0.count } }
    /// Those that came back right.
    var good: Int { state.withLock { $0.good } }
    /// Nobody is to call any more.
    var isOver: Bool { state.withLock { $0.isOver } }

    /// A call came back.
    func note(_ isGood: Bool) {
        state.withLock { state in
            state.count += 1
            if isGood { state.good += 1 }
        }
    }

    /// Nobody is to call any more.
    func end() {
        state.withLock { $0.isOver = true }
    }
}
