// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

/// Saved states of serial port, clock, reset and power: restoring gives the same state, and an invalid state is refused.
@Suite struct LegacyDeviceStateTests {
    private let context = VCPUContext(index: 0)

    private func serial() throws -> (port: Serial8250, line: InterruptLine) {
        let line = try InterruptLine(unconnected: 4)
        return (try Serial8250(interrupt: line, output: ConsoleOutput()), line)
    }

    @Test func aSerialPortGoesOn() throws {
        let first = try serial().port
        for (register, value) in [(UInt64(3), UInt64(0x83)), (0, 0x0c), (1, 1), (3, 3), (1, 5), (2, 1), (4, 0x0b), (7, 0x77)] {
            first.write(offset: register, size: 1, value: value, from: context)
        }
        // Make the ring's index wrap.
        for byte in UInt8(0)..<60 {
            #expect(first.receive(byte))
            #expect(first.read(offset: 0, size: 1) == UInt64(byte))
        }
        for byte in UInt8(100)..<120 { #expect(first.receive(byte)) }
        first.suspend()
        #expect(!first.receive(1), "a suspended port takes no input")
        let state = try first.saveState()
        #expect(state.received == Array(100..<120))

        let (second, line) = try serial()
        try second.restoreState(state)
        #expect(try second.saveState() == state)
        #expect(line.takePending() == 0)
        second.resume()
        #expect(line.takePending() == 1, "the interrupt for the input that waits")
        for register in [UInt64(1), 2, 3, 4, 5, 6, 7] {
            #expect(second.read(offset: register, size: 1) == first.read(offset: register, size: 1))
        }
        for byte in UInt64(100)..<120 { #expect(second.read(offset: 0, size: 1) == byte) }
        #expect(second.read(offset: 5, size: 1) & 1 == 0)
        #expect(second.receive(7))
    }

    @Test func anIdleSerialPortDoesNotInterrupt() throws {
        let (port, line) = try serial()
        try port.restoreState(try serial().port.saveState())
        port.resume()
        #expect(line.takePending() == 0)
    }

    @Test func serialStatesThatCannotBeAreRefused() throws {
        let port = try serial().port
        let good = try port.saveState()
        let changes: [(inout Serial8250.State) -> Void] = [
            { $0.received = [UInt8](repeating: 0, count: 65) }, { $0.interruptEnable = 0x10 }, { $0.modemControl = 0x20 },
        ]
        for change in changes {
            var state = good
            change(&state)
            #expect(throws: VMMError.self) { try port.restoreState(state) }
        }
    }

    @Test func theClockKeepsItsRegister() throws {
        let first = CMOSClock()
        first.write(offset: 0, size: 1, value: 0x8b, from: context)
        let second = CMOSClock()
        try second.restoreState(try first.saveState())
        #expect(second.read(offset: 1, size: 1) == 0x02)
        #expect(throws: VMMError.self) { try second.restoreState(CMOSClock.State(index: 0x80)) }
    }

    @Test func powerManagementKeepsItsEvents() throws {
        let first = PowerManagement(interrupt: LevelInterrupt(unconnected: 9))
        first.write(offset: 2, size: 2, value: 0x100, from: context)
        #expect(first.pressPowerButton())
        let state = try first.saveState()
        let second = PowerManagement(interrupt: LevelInterrupt(unconnected: 9))
        try second.restoreState(state)
        #expect(second.read(offset: 0, size: 4) & 0xffff_ffff == 0x0100_0100)
        #expect(try second.saveState() == state)
        for bad in [
            PowerManagement.State(status: 1, enable: 0, control: 1), PowerManagement.State(status: 0, enable: 0, control: 0),
            PowerManagement.State(status: 0, enable: 0, control: 0x2001),
        ] {
            #expect(throws: VMMError.self) { try second.restoreState(bad) }
        }
    }

    @Test func aPowerButtonThatIsNotEnabledLeavesNoEvent() throws {
        let device = PowerManagement(interrupt: LevelInterrupt(unconnected: 9))
        #expect(!device.pressPowerButton())
        device.write(offset: 2, size: 2, value: 0x100, from: context)
        #expect(device.read(offset: 0, size: 2) & 0xffff == 0)
        #expect(device.pressPowerButton())
        #expect(device.read(offset: 0, size: 2) & 0xffff == 0x100)
    }

    @Test func theResetControllerHasNothing() throws {
        try ResetController().restoreState(try ResetController().saveState())
    }
}
