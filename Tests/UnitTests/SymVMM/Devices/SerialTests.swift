// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase

/// The serial port as a driver sees it, register by register.
@Suite struct SerialTests {
    private enum Register {
        static let data: UInt64 = 0
        static let interruptEnable: UInt64 = 1
        static let interruptIdentification: UInt64 = 2
        static let lineControl: UInt64 = 3
        static let modemControl: UInt64 = 4
        static let lineStatus: UInt64 = 5
        static let modemStatus: UInt64 = 6
        static let scratch: UInt64 = 7
    }

    private final class Sink: ConsoleOutput, @unchecked Sendable {
        private(set) var bytes: [UInt8] = []
        override func write(_ byte: UInt8) {
            bytes.append(byte)
        }
    }

    private let line: InterruptLine
    private let sink = Sink()
    private let port: Serial8250

    init() throws {
        line = try InterruptLine(unconnected: 4)
        port = try Serial8250(interrupt: line, output: sink)
    }

    private func write(_ register: UInt64, _ value: UInt64) {
        port.write(offset: register, size: 1, value: value, from: VCPUContext(index: 0))
    }

    @Test func aByteLeavesAtOnceAndRaisesNothingUnlessAsked() {
        write(Register.data, 0x41)
        #expect(sink.bytes == [0x41])
        #expect(line.takePending() == 0)
        #expect(port.read(offset: Register.lineStatus, size: 1) == 0x60)
    }

    @Test func anEmptiedFIFOHasSpace() {
        for _ in 0..<Serial8250.fifoCapacity { #expect(port.receive(0x41)) }
        #expect(!port.receive(0x41))
        // FCR: the guest clears the receiver FIFO.
        write(Register.interruptIdentification, 3)
        #expect(port.spaceAvailable.drain() == 1, "whoever waits for space is told")
        #expect(port.receive(0x42))
    }

    @Test func theTransmitterInterruptsOnceForABurst() {
        write(Register.interruptEnable, 2)
        #expect(line.takePending() == 1)
        #expect(port.read(offset: Register.interruptIdentification, size: 1) & 0xf == 2)
        for byte in UInt64(0)..<16 { write(Register.data, byte) }
        #expect(line.takePending() == 1)
        #expect(port.read(offset: Register.interruptIdentification, size: 1) & 0xf == 2)
        #expect(port.read(offset: Register.interruptIdentification, size: 1) & 0xf == 1)
    }

    @Test func inputWaitsInTheFIFOAndInterrupts() {
        write(Register.interruptEnable, 1)
        #expect(port.receive(0x61))
        #expect(port.receive(0x62))
        #expect(line.takePending() == 2)
        #expect(port.read(offset: Register.interruptIdentification, size: 1) & 0xf == 4)
        #expect(port.read(offset: Register.lineStatus, size: 1) & 1 == 1)
        #expect(port.read(offset: Register.data, size: 1) == 0x61)
        #expect(port.read(offset: Register.data, size: 1) == 0x62)
        #expect(port.read(offset: Register.lineStatus, size: 1) & 1 == 0)
    }

    @Test func aFullFIFORefusesAndTellsOfRoom() {
        for _ in 0..<64 { #expect(port.receive(0x2e)) }
        #expect(!port.receive(0x2e))
        #expect(port.spaceAvailable.drain() == 0)
        for _ in 0..<64 { _ = port.read(offset: Register.data, size: 1) }
        #expect(port.spaceAvailable.drain() == 1)
        #expect(port.receive(0x2e))
    }

    @Test func enablingAnInterruptWhoseConditionStandsRaisesIt() {
        #expect(port.receive(0x2e))
        #expect(line.takePending() == 0)
        write(Register.interruptEnable, 1)
        #expect(line.takePending() == 1)
    }

    @Test func loopbackComesBackAsInputAndModemStatus() {
        write(Register.modemControl, 0x1f)
        write(Register.data, 0x55)
        #expect(sink.bytes.isEmpty)
        #expect(port.read(offset: Register.data, size: 1) == 0x55)
        #expect(port.read(offset: Register.modemStatus, size: 1) == 0xf0)
    }

    @Test func theDivisorHidesBehindItsBit() {
        write(Register.lineControl, 0x83)
        write(Register.data, 0x34)
        write(Register.interruptEnable, 0x12)
        #expect(port.read(offset: Register.data, size: 1) == 0x34)
        #expect(port.read(offset: Register.interruptEnable, size: 1) == 0x12)
        write(Register.lineControl, 3)
        #expect(port.read(offset: Register.interruptEnable, size: 1) == 0)
        #expect(sink.bytes.isEmpty)
        write(Register.scratch, 0xa5)
        #expect(port.read(offset: Register.scratch, size: 1) == 0xa5)
    }
}
