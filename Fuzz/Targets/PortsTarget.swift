// SPDX-License-Identifier: Apache-2.0

import VMMBase
import VMMModel

@testable import SymVMM

extension FuzzTarget {
    static let ports = FuzzTarget(
        name: "ports", summary: "serial port, clock, power management and reset: port accesses against a model, saved and restored",
        maximumLength: 1024, seeds: { [[0, 0, 65, 1, 0, 3, 0x80, 0, 0, 1, 2, 0], [9, 65, 1, 0, 5, 2, 1, 0x10, 4, 0, 66]] },
        prepare: { { input in try PortsFuzz(input.byte()).run(&input) } })
}

/// Why the guest ended its VM.
final class EndRecorder: VCPUContext, @unchecked Sendable {
    var outcome: TerminationReason?
    override func end(_ outcome: TerminationReason) { self.outcome = outcome }
}

private final class RecordingOutput: ConsoleOutput, @unchecked Sendable {
    var bytes: [UInt8] = []
    override func write(_ byte: UInt8) { bytes.append(byte) }
}

/// The registers of a 16550A that decide about input and output.
private struct SerialModel {
    var lineControl: UInt8 = 0
    var modemControl: UInt8 = 8
    var scratch: UInt8 = 0
    var divisor: UInt16 = 12
    var interruptEnable: UInt8 = 0
    var fifo: [UInt8] = []
    var sent: [UInt8] = []

    var accessesDivisor: Bool { lineControl & 0x80 != 0 }
    var isLoop: Bool { modemControl & 0x10 != 0 }

    mutating func write(_ offset: UInt64, _ byte: UInt8) {
        switch offset {
        case 0 where accessesDivisor: divisor = divisor & 0xff00 | UInt16(byte)
        case 0 where isLoop: if fifo.count < Serial8250.fifoCapacity { fifo.append(byte) }
        case 0: sent.append(byte)
        case 1 where accessesDivisor: divisor = divisor & 0xff | UInt16(byte) << 8
        case 1: interruptEnable = byte & 0x0f
        case 2: if byte & 2 != 0 { fifo = [] }
        case 3: lineControl = byte
        case 4: modemControl = byte & 0x1f
        case 7: scratch = byte
        default: break
        }
    }

    /// The value of a read; nil if the model does not know it.
    mutating func read(_ offset: UInt64) -> UInt8? {
        switch offset {
        case 0 where accessesDivisor: return UInt8(truncatingIfNeeded: divisor)
        case 0: return fifo.isEmpty ? 0 : fifo.removeFirst()
        case 1 where accessesDivisor: return UInt8(divisor >> 8)
        case 1: return interruptEnable
        case 3: return lineControl
        case 4: return modemControl
        case 5: return 0x60 | (fifo.isEmpty ? 0 : 1)
        case 7: return scratch
        default: return nil
        }
    }
}

private final class PortsFuzz {
    private let line: InterruptLine
    private let output = RecordingOutput()
    private var serial: Serial8250
    private var clock = CMOSClock()
    private var power = PowerManagement(interrupt: LevelInterrupt(unconnected: 9))
    private let reset = ResetController()
    private var model = SerialModel()
    private let first: UInt8

    init(_ first: UInt8) throws {
        self.first = first
        line = try InterruptLine(unconnected: 4)
        serial = try Serial8250(interrupt: line, output: output)
    }

    func run(_ input: inout FuzzInput) throws {
        while !input.isEmpty {
            let context = EndRecorder(index: 0)
            switch input.byte() % 10 {
            case 0, 1, 2: writeSerial(UInt64(input.byte() % 10), input.byte(), context)
            case 3, 4: readSerial(UInt64(input.byte() % 10))
            case 5: receive(input.byte())
            case 6: checkClock(&input, context)
            case 7: checkPower(&input, context)
            case 8:
                let value = input.edge()
                reset.write(offset: 0, size: input.pick([1, 2, 4]), value: value, from: context)
                expect((context.outcome == .reset) == (value & 0xff == 0xfe), "0x\(String(value, radix: 16)) at port 0x64")
            default: try saveAndRestore()
            }
        }
        expect(output.bytes == model.sent, "sent \(output.bytes), not \(model.sent)")
    }

    private func writeSerial(_ offset: UInt64, _ byte: UInt8, _ context: EndRecorder) {
        let before = model.fifo.count
        model.write(offset, byte)
        _ = line.takePending()
        _ = serial.spaceAvailable.drain()
        serial.write(offset: offset, size: 1, value: UInt64(byte), from: context)
        expect(context.outcome == nil, "the serial port ended the VM")
        if before > 0, model.fifo.isEmpty { expect(serial.spaceAvailable.drain() > 0, "no signal for an empty FIFO") }
        // An interrupt at the moment when input arrives in loopback.
        if model.fifo.count > before, model.interruptEnable & 1 != 0 { expect(line.takePending() > 0, "no interrupt for input") }
    }

    private func readSerial(_ offset: UInt64) {
        let before = model.fifo.count
        let wanted = model.read(offset)
        _ = serial.spaceAvailable.drain()
        let value = serial.read(offset: offset, size: 1)
        expect(value <= 0xff, "a register of 8 bits reads as \(value)")
        if before > 0, model.fifo.isEmpty { expect(serial.spaceAvailable.drain() > 0, "no signal for an empty FIFO") }
        if let wanted { expect(value == UInt64(wanted), "register \(offset) is \(value), not \(wanted)") }
    }

    private func receive(_ byte: UInt8) {
        _ = line.takePending()
        let isTaken = serial.receive(byte)
        expect(isTaken == (model.fifo.count < Serial8250.fifoCapacity), "a FIFO with \(model.fifo.count) bytes: taken \(isTaken)")
        guard isTaken else { return }
        model.fifo.append(byte)
        if model.interruptEnable & 1 != 0 { expect(line.takePending() > 0, "no interrupt for input") }
    }

    private func checkClock(_ input: inout FuzzInput, _ context: VCPUContext) {
        clock.write(offset: UInt64(input.byte() % 3), size: 1, value: input.edge(), from: context)
        let value = clock.read(offset: 1, size: 1)
        expect(value <= 0xff)
        for index in [0, 2, 4, 6, 7, 8, 9, 0x32] as [UInt8] {
            let register = CMOSClock.register(index, at: Int(truncatingIfNeeded: input.long()))
            expect(register & 0x0f <= 9 && register >> 4 <= 9, "register \(index) is no BCD number: \(register)")
        }
        // A time that no calendar has.
        _ = CMOSClock.register(input.byte() & 0x7f, at: Int(bitPattern: UInt(input.edge())))
    }

    private func checkPower(_ input: inout FuzzInput, _ context: EndRecorder) {
        let (offset, size, value) = (UInt64(input.byte() % 8), input.pick([1, 2, 4]), input.edge())
        if input.flag() { _ = power.pressPowerButton() }
        power.write(offset: offset, size: size, value: value, from: context)
        let isOff = offset == 4 && size > 1 && value & 1 << 13 != 0 && value >> 10 & 7 == 5
        expect((context.outcome == .powerOff) == isOff, "0x\(String(value, radix: 16)) at offset \(offset)")
        expect(power.read(offset: 4, size: 2) & 0x2001 == 1, "SCI_EN is set and SLP_EN reads as zero")
        _ = power.read(offset: input.edge(), size: size)
    }

    private func saveAndRestore() throws {
        let state = try serial.saveState()
        let other = try Serial8250(interrupt: line, output: output)
        try other.restoreState(state)
        other.resume()
        expect(try other.saveState() == state, "a restored serial port differs")
        serial = other
        let clockState = try clock.saveState()
        clock = CMOSClock()
        try clock.restoreState(clockState)
        let powerState = try power.saveState()
        power = PowerManagement(interrupt: LevelInterrupt(unconnected: 9))
        try power.restoreState(powerState)
        expect(try power.saveState() == powerState, "restored power management differs")
    }
}
