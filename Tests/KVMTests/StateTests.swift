// SPDX-License-Identifier: Apache-2.0

import CKVM
import FoundationEssentials
import SymbioticABI
import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMModel

/// Guests that are saved while they run, and continue in a second machine of this process.
@Suite(.serialized, .timeLimit(.minutes(2))) struct StateTests {
    /// The state as the bytes of a file.
    private static func encode(_ state: SavedMachine) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return try encoder.encode(state)
    }

    private static func decode(_ data: Data, for machine: VirtualMachine) throws -> SavedMachine {
        let decoder = JSONDecoder()
        if let key = StateKinds.key { decoder.userInfo[key] = machine.stateKinds }
        return try decoder.decode(SavedMachine.self, from: data)
    }

    /// The state without the values that change while no vCPU runs: clocks, counters, and the ticks that the timer raises.
    private static func withoutTime(_ state: SavedMachine) throws -> String {
        var state = state
        state.clock = ClockState(nanoseconds: 0)
        state.intervalTimer.nanoseconds = 0
        for index in state.interruptControllers.chips.indices {
            var chip = kvm_irqchip()
            try state.interruptControllers.chips[index].restore(to: &chip)
            // SAFETY: the kernel fills in these members of the union: the IO-APIC's for the last chip, the PIC's for the others.
            if index == 2 {
                unsafe chip.chip.ioapic.irr = 0
            } else {
                unsafe chip.chip.pic.irr = 0
                unsafe chip.chip.pic.last_irr = 0
            }
            state.interruptControllers.chips[index] = KernelBytes(chip)
        }
        for index in state.vcpus.indices { state.vcpus[index].kernel.time = VCPUTime(counter: 0, offset: nil, kilohertz: 0) }
        return String(decoding: try encode(state), as: UTF8.self)
    }

    @Test func aGuestGoesOnInASecondMachine() throws {
        let first = try StateGuest()
        try first.run(until: 5000)
        let data = try StateTests.encode(first.machine.saveState())
        let second = try StateGuest(continuing: first)
        let state = try StateTests.decode(data, for: second.machine)
        let ticks = try first.tickCount()
        first.machine.kill()
        #expect(first.machine.wait() == .killed)

        try second.machine.restoreState(state)
        #expect(second.numbers.count == first.numbers.count)
        try second.machine.start()
        #expect(try second.wait() == .reset)
        #expect(second.numbers.count == UInt64(StateGuest.rounds))
        try second.expectRightResults()
        #expect(ticks > 0)
        #expect(try second.tickCount() >= ticks + 5)
    }

    @Test func whatIsRestoredIsWhatWasSaved() throws {
        let first = try StateGuest(vcpus: 2)
        try first.run(until: 100)
        let saved = try first.machine.saveState()
        let second = try StateGuest(continuing: first, vcpus: 2)
        try second.machine.restoreState(saved)
        var again = try second.machine.saveState()
        // The state of the timer's channels contains times of the host's clock, which differ.
        again.intervalTimer = saved.intervalTimer
        #expect(try StateTests.withoutTime(again) == StateTests.withoutTime(saved))
        let late = Int64(bitPattern: again.clock.nanoseconds &- saved.clock.nanoseconds)
        #expect(late >= 0)
        first.machine.kill()
        _ = first.machine.wait()
    }

    @Test func aMachineGoesOnAfterItsStateWasSaved() throws {
        let guest = try StateGuest()
        for round in UInt64(1)...5 {
            if round == 1 { try guest.run(until: 1000) } else { #expect(waitUntil { guest.numbers.count >= round * 1000 }) }
            guest.machine.pause()
            _ = try guest.machine.saveState()
            guest.machine.resume()
        }
        #expect(try guest.wait() == .reset)
        try guest.expectRightResults()
    }

    @Test func onlyAMachineThatRestsIsSavedAndOnlyANewOneIsRestored() throws {
        let guest = try StateGuest()
        try guest.run(until: 10)
        let state = try guest.machine.saveState()
        #expect(throws: VMMError.self) { try guest.machine.restoreState(state) }
        let other = try StateGuest()
        try other.machine.start()
        #expect(throws: VMMError.self) { try other.machine.saveState() }
        for machine in [guest.machine, other.machine] {
            machine.kill()
            _ = machine.wait()
        }
        #expect(throws: VMMError.self) { try other.machine.saveState() }
    }

    /// A state from a file may contain any values.
    @Test func statesOfOtherMachinesAndBrokenOnesAreRefused() throws {
        let guest = try StateGuest()
        try guest.run(until: 10)
        let saved = try guest.machine.saveState()
        let changes: [(String, (inout SavedMachine) -> Void)] = [
            ("version 9", { $0.version = 9 }), ("bytes of memory", { $0.memoryByteCount += 4096 }), ("0 vCPUs", { $0.vcpus = [] }),
            ("devices", { $0.devices.removeLast() }), ("devices", { $0.devices[0].name = "other" }),
            ("interrupt controllers", { $0.interruptControllers.chips.removeLast() }), ("symbiotic", { $0.symbiotic = nil }),
            ("MSR 0xffff", { $0.vcpus[0].kernel.msrs.append(KVMVCPUState.MSR(index: 0xffff, value: 0)) }),
            ("CPUID", { $0.vcpus[0].kernel.cpuid.removeLast() }),
            ("extended state", { $0.vcpus[0].kernel.extendedState = HexBytes([1, 2, 3]) }),
            ("KVM_SET_MP_STATE", { $0.vcpus[0].kernel.multiprocessorState = 77 }),
            ("symbiotic MSRs", { $0.vcpus[0].registration = VCPURegistrationState(values: [1]) }),
            ("symbiotic MSR 0x", { $0.vcpus[0].registration?.values[0] = 1 }),
        ]
        for (part, change) in changes {
            var state = saved
            change(&state)
            let machine = try StateGuest(continuing: guest).machine
            do throws(VMMError) {
                try machine.restoreState(state)
                Issue.record("taken: \(part)")
            } catch {
                #expect(error.description.contains(part), "\(error) says nothing of \(part)")
                #expect(error.kind != .bug)
            }
            // The machine ends as soon as it is started.
            try machine.start()
            #expect(machine.state == .ended)
            #expect(machine.wait() == .killed)
        }
        guest.machine.kill()
        _ = guest.machine.wait()
    }

    /// Any byte of each of KVM's structures may be wrong: KVM or symvmm refuses the state, or the guest misbehaves; the process survives.
    @Test func noiseInAStateHarmsNobody() throws {
        let guest = try StateGuest()
        try guest.run(until: 10)
        let data = try StateTests.encode(try guest.machine.saveState())
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<60 {
            var noisy = data
            for _ in 0..<8 { noisy[Int.random(in: 0..<noisy.count, using: &generator)] = UInt8(ascii: "7") }
            let second = try StateGuest(continuing: guest)
            guard let state = try? StateTests.decode(noisy, for: second.machine) else { continue }
            guard (try? second.machine.restoreState(state)) != nil else { continue }
            try second.machine.start()
            Thread.sleep(milliseconds: 5)
            second.machine.kill()
            _ = second.machine.wait()
        }
        guest.machine.kill()
        _ = guest.machine.wait()
    }

    /// A symbiotic guest continues after a restore: it is still registered and armed, and symcalls work.
    @Test func aSymbioticGuestIsStillRegistered() throws {
        let first = try armed()
        let values = SymCallTests.values
        #expect(try first.machine.symcall(SYMBIOTIC_SYMCALL_PING, values, vcpu: 0) == values)
        first.machine.pause()
        let data = try StateTests.encode(try first.machine.saveState())
        let second = try SymCallPuppet(continuing: first) { machine in
            try machine.restoreState(StateTests.decode(data, for: machine))
        }
        first.machine.kill()
        _ = first.machine.wait()
        #expect(second.read(SYMBIOTIC_MSR_RIP) == SymCallPuppet.high + SymCallPuppet.Place.handler)
        #expect(second.read(SYMBIOTIC_MSR_GLOBAL_PAGE) == SymCallPuppet.Place.globalPage)
        #expect(try second.machine.symcall(SYMBIOTIC_SYMCALL_PING, values, vcpu: 0) == values)
        #expect(second.counter("completed") == 1)
        expectAlive(second)
    }
}
