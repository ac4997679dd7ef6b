// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

/// The keyboard controller as Linux's drivers i8042 and atkbd use it.
@Suite struct KeyboardControllerTests {
    private let line: InterruptLine
    private let keyboard: KeyboardController
    private let context = VCPUContext(index: 0)

    init() throws {
        line = try InterruptLine(unconnected: 1)
        keyboard = KeyboardController(interrupt: line)
    }

    private var status: UInt64 { keyboard.read(offset: 4, size: 1) }

    private func command(_ byte: UInt64) {
        keyboard.write(offset: 4, size: 1, value: byte, from: context)
    }

    private func data(_ byte: UInt64) {
        keyboard.write(offset: 0, size: 1, value: byte, from: context)
    }

    /// Reads until the output buffer is empty.
    private func output() -> [UInt64] {
        var bytes: [UInt64] = []
        while status & 1 != 0, bytes.count < 100 { bytes.append(keyboard.read(offset: 0, size: 1)) }
        return bytes
    }

    /// What Linux's i8042 does at the start: the control byte with the keyboard's port and interrupt.
    private func enable(translation: Bool = false) {
        command(0x60)
        data(translation ? 0x45 : 0x05)
    }

    @Test func theControllerIsFoundWithoutWaiting() {
        #expect(status == 0x14, "empty, not locked")
        command(0x20)
        #expect(output() == [0x34])
        command(0xaa)
        #expect(output() == [0x55])
        command(0xab)
        #expect(output() == [0x00])
        command(0xa9)
        #expect(output() == [0x01])
        command(0xd3)
        data(0x5a)
        #expect(output() == [0x5a])
        #expect(line.takePending() == 0, "no interrupt before a driver enables it")
    }

    @Test func theKeyboardIsFound() {
        enable()
        for (byte, answer) in [
            (UInt64(0xf2), [UInt64(0xfa), 0xab, 0x83]), (0xff, [0xfa, 0xaa]), (0xed, [0xfa]), (0x02, [0xfa]), (0xf3, [0xfa]),
            (0x00, [0xfa]),
            (0xf0, [0xfa]), (0x00, [0xfa, 0x02]), (0xf4, [0xfa]), (0xee, [0xee]),
        ] {
            _ = line.takePending()
            data(byte)
            #expect(line.takePending() == 1)
            #expect(output() == answer, "\(byte)")
            // One more for each byte that follows another.
            #expect(line.takePending() == UInt64(answer.count - 1))
        }
    }

    @Test func controlAltDeleteIsTyped() {
        #expect(!keyboard.typeControlAltDelete(), "no driver")
        enable()
        #expect(keyboard.typeControlAltDelete())
        #expect(line.takePending() == 1)
        #expect(!keyboard.typeControlAltDelete(), "no room")
        #expect(output() == [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14])
        #expect(line.takePending() == 10)
        enable(translation: true)
        #expect(keyboard.typeControlAltDelete())
        #expect(output() == [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d])
        command(0xad)
        #expect(!keyboard.typeControlAltDelete(), "disabled")
    }

    @Test func theBufferIsBounded() {
        enable()
        for _ in 0..<100 { data(0xf4) }
        #expect(output() == [UInt64](repeating: 0xfa, count: 16))
        #expect(keyboard.read(offset: 0, size: 1) == 0xfa, "the last byte again")
        for offset in UInt64(1)..<4 { #expect(keyboard.read(offset: offset, size: 1) == .max) }
        for byte in UInt64(0)...255 where byte != 0xfe {
            for value in [UInt64(0), 0xff, byte] {
                command(byte)
                data(value)
            }
        }
        #expect(output().count <= 16)
    }

    @Test func aStateGoesOn() throws {
        enable()
        data(0xed)
        #expect(keyboard.typeControlAltDelete())
        let state = try keyboard.saveState()
        let otherLine = try InterruptLine(unconnected: 1)
        let other = KeyboardController(interrupt: otherLine)
        try other.restoreState(state)
        #expect(try other.saveState() == state)
        #expect(otherLine.takePending() == 0)
        other.resume()
        #expect(otherLine.takePending() == 1)
        other.write(offset: 0, size: 1, value: 7, from: context)
        #expect(try other.saveState().output == state.output + [0xfa])
        var bad = state
        bad.output = [UInt8](repeating: 0, count: 17)
        #expect(throws: VMMError.self) { try other.restoreState(bad) }
    }
}
