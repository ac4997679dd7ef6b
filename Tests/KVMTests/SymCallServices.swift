// SPDX-License-Identifier: Apache-2.0

import SymbioticABI
import Synchronization

@testable import SymVMM

/// Answers a doorbell with two PINGs.
final class DoorbellService: SymbioticService, @unchecked Sendable {
    /// Whether the calls of each doorbell returned their arguments. Read it after the guest's answer.
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

/// Answers a doorbell with the symcalls that a test selects.
final class CallingService: SymbioticService, @unchecked Sendable {
    /// The symcalls to make. Set them while the guest is idle.
    var numbers: [UInt32] = []
    /// The failures of the last doorbell's calls, and whether it was the fast doorbell. Read them after the guest's answer.
    private(set) var errors: [SymCallFailure?] = []
    private(set) var isAtFastDoorbell = false

    /// Answers one doorbell.
    init() {
        super.init(claims: ServiceClaims(name: "test", doorbells: 0x30...0x30))
    }

    override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        isAtFastDoorbell = vcpu.symCallEngine?.isAtFastDoorbell == true
        errors = numbers.map { number in
            do throws(SymCallFailure) {
                _ = try vcpu.symcall(number, values)
                return nil
            } catch {
                return error
            }
        }
    }
}

/// Counts symcalls that several threads make.
final class CallsInFlight: Sendable {
    private let state = Mutex((count: 0, good: 0, isOver: false))

    /// Calls that have returned.
    var count: Int { state.withLock { $0.count } }
    /// Those with the right results.
    var good: Int { state.withLock { $0.good } }
    /// Whether the threads must stop.
    var isOver: Bool { state.withLock { $0.isOver } }

    /// Counts a call that has returned.
    func record(_ isGood: Bool) {
        state.withLock { state in
            state.count += 1
            if isGood { state.good += 1 }
        }
    }

    /// Makes the threads stop.
    func end() {
        state.withLock { $0.isOver = true }
    }
}
