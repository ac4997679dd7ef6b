// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

/// A 16550A serial port: the guest's console (National Semiconductor PC16550D data sheet).
///
/// Sends output at once, regardless of the baud rate. Stores input in a FIFO of 64 bytes. The interrupt is edge-triggered: the port raises it
/// each time a condition arises that the guest has enabled.
final class Serial8250: BusDevice, @unchecked Sendable {
    /// First port of COM1.
    static let basePort: UInt16 = 0x3f8
    /// Number of ports.
    static let portCount = 8
    /// Interrupt of COM1.
    static let interruptNumber: UInt32 = 4

    static let fifoCapacity = 64

    enum InterruptEnable {
        static let received: UInt8 = 1 << 0
        static let transmitterEmpty: UInt8 = 1 << 1
        static let all: UInt8 = 0x0f
    }

    private enum InterruptIdentification {
        static let none: UInt8 = 0x01
        static let transmitterEmpty: UInt8 = 0x02
        static let received: UInt8 = 0x04
        static let fifosEnabled: UInt8 = 0xc0
    }

    private enum LineControl {
        static let divisorAccess: UInt8 = 1 << 7
    }

    private enum LineStatus {
        static let dataReady: UInt8 = 1 << 0
        static let transmitterHoldingEmpty: UInt8 = 1 << 5
        static let transmitterEmpty: UInt8 = 1 << 6
    }

    enum ModemControl {
        static let loopback: UInt8 = 1 << 4
        static let all: UInt8 = 0x1f
    }

    private enum ModemStatus {
        /// Clear to send, data set ready and carrier are always set.
        static let connected: UInt8 = 0xb0
    }

    struct Registers {
        var interruptEnable: UInt8 = 0
        var fifosEnabled = false
        var lineControl: UInt8 = 0
        var modemControl: UInt8 = 0x08
        var scratch: UInt8 = 0
        var divisor: UInt16 = 12
        /// The transmitter is empty, and the guest has not yet read this interrupt's identification.
        var transmitterEmptyPending = false
        /// A ring of received bytes.
        var fifo: InlineArray<64, UInt8> = .init(repeating: 0)
        var fifoStart = 0
        var fifoCount = 0
        /// The port accepts no input, because its state is being saved.
        var isSuspended = false
    }

    let registers = Mutex(Registers())
    let interrupt: InterruptLine
    private let output: ConsoleOutput
    /// Signalled when the guest has emptied the FIFO, so that there is room for input.
    let spaceAvailable: EventNotifier

    /// Creates a port that sends to `output`.
    init(interrupt: InterruptLine, output: ConsoleOutput) throws(VMMError) {
        self.interrupt = interrupt
        self.output = output
        spaceAvailable = try EventNotifier(nonblocking: true)
        super.init(name: "serial")
    }

    /// Adds a byte to the FIFO for the guest. Any thread. Returns false if the FIFO is full: wait for `spaceAvailable`, then try again.
    func receive(_ byte: UInt8) -> Bool {
        registers.withLock { registers in
            guard registers.fifoCount < Serial8250.fifoCapacity, !registers.isSuspended else { return false }
            registers.fifo[(registers.fifoStart &+ registers.fifoCount) % Serial8250.fifoCapacity] = byte
            registers.fifoCount &+= 1
            if registers.interruptEnable & InterruptEnable.received != 0 { interrupt.trigger() }
            return true
        }
    }

    /// Stops accepting input.
    override func suspend() {
        registers.withLock { $0.isSuspended = true }
    }

    /// Accepts input again. Raises the interrupt if a condition is pending, because the saved state does not contain an edge in flight.
    override func resume() {
        registers.withLock { registers in
            registers.isSuspended = false
            let stands =
                registers.interruptEnable & InterruptEnable.received != 0 && registers.fifoCount > 0
                || registers.interruptEnable & InterruptEnable.transmitterEmpty != 0 && registers.transmitterEmptyPending
            if stands { interrupt.trigger() }
        }
        spaceAvailable.signal()
    }

    override func read(offset: UInt64, size: Int) -> UInt64 {
        UInt64(registers.withLock { read(&$0, offset) })
    }

    private func read(_ registers: inout Registers, _ offset: UInt64) -> UInt8 {
        let divisorAccess = registers.lineControl & LineControl.divisorAccess != 0
        switch offset {
        case 0 where divisorAccess: return UInt8(truncatingIfNeeded: registers.divisor)
        case 0: return takeReceived(&registers)
        case 1 where divisorAccess: return UInt8(truncatingIfNeeded: registers.divisor >> 8)
        case 1: return registers.interruptEnable
        case 2: return identifyInterrupt(&registers)
        case 3: return registers.lineControl
        case 4: return registers.modemControl
        case 5:
            let ready = registers.fifoCount > 0 ? LineStatus.dataReady : 0
            return LineStatus.transmitterHoldingEmpty | LineStatus.transmitterEmpty | ready
        case 6: return modemStatus(registers)
        case 7: return registers.scratch
        default: return 0xff
        }
    }

    override func write(offset: UInt64, size: Int, value: UInt64, from context: VCPUContext) {
        let byte = UInt8(truncatingIfNeeded: value)
        registers.withLock { write(&$0, offset, byte) }
    }

    private func write(_ registers: inout Registers, _ offset: UInt64, _ byte: UInt8) {
        let divisorAccess = registers.lineControl & LineControl.divisorAccess != 0
        switch offset {
        case 0 where divisorAccess: registers.divisor = registers.divisor & 0xff00 | UInt16(byte)
        case 0: transmit(&registers, byte)
        case 1 where divisorAccess: registers.divisor = registers.divisor & 0x00ff | UInt16(byte) << 8
        case 1: enableInterrupts(&registers, byte)
        case 2:
            registers.fifosEnabled = byte & 1 != 0
            if byte & 2 != 0, registers.fifoCount > 0 {
                registers.fifoCount = 0
                spaceAvailable.signal()
            }
        case 3: registers.lineControl = byte
        case 4: registers.modemControl = byte & ModemControl.all
        case 7: registers.scratch = byte
        default: break
        }
    }

    private func transmit(_ registers: inout Registers, _ byte: UInt8) {
        if registers.modemControl & ModemControl.loopback != 0 {
            guard registers.fifoCount < Serial8250.fifoCapacity else { return }
            registers.fifo[(registers.fifoStart &+ registers.fifoCount) % Serial8250.fifoCapacity] = byte
            registers.fifoCount &+= 1
            if registers.interruptEnable & InterruptEnable.received != 0 { interrupt.trigger() }
        } else {
            output.write(byte)
        }
        // Raise an edge only when the condition arises: an edge that the guest has not yet handled is still pending.
        if !registers.transmitterEmptyPending, registers.interruptEnable & InterruptEnable.transmitterEmpty != 0 { interrupt.trigger() }
        registers.transmitterEmptyPending = true
    }

    private func enableInterrupts(_ registers: inout Registers, _ byte: UInt8) {
        let enabled = byte & InterruptEnable.all & ~registers.interruptEnable
        registers.interruptEnable = byte & InterruptEnable.all
        if enabled & InterruptEnable.transmitterEmpty != 0 { registers.transmitterEmptyPending = true }
        let raises =
            enabled & InterruptEnable.transmitterEmpty != 0 || (enabled & InterruptEnable.received != 0 && registers.fifoCount > 0)
        if raises { interrupt.trigger() }
    }

    private func takeReceived(_ registers: inout Registers) -> UInt8 {
        guard registers.fifoCount > 0 else { return 0 }
        let byte = registers.fifo[registers.fifoStart]
        registers.fifoStart = (registers.fifoStart &+ 1) % Serial8250.fifoCapacity
        registers.fifoCount &-= 1
        if registers.fifoCount == 0 { spaceAvailable.signal() }
        return byte
    }

    /// Returns the pending condition with the highest priority; reading the empty-transmitter condition clears it.
    private func identifyInterrupt(_ registers: inout Registers) -> UInt8 {
        let fifos = registers.fifosEnabled ? InterruptIdentification.fifosEnabled : 0
        if registers.interruptEnable & InterruptEnable.received != 0, registers.fifoCount > 0 {
            return fifos | InterruptIdentification.received
        }
        if registers.interruptEnable & InterruptEnable.transmitterEmpty != 0, registers.transmitterEmptyPending {
            registers.transmitterEmptyPending = false
            return fifos | InterruptIdentification.transmitterEmpty
        }
        return fifos | InterruptIdentification.none
    }

    /// In loopback mode the modem outputs are connected to the inputs: DTR as DSR, RTS as CTS, OUT1 as RI, OUT2 as DCD.
    private func modemStatus(_ registers: Registers) -> UInt8 {
        let control = registers.modemControl
        guard control & ModemControl.loopback != 0 else { return ModemStatus.connected }
        return (control & 2) << 3 | (control & 1) << 5 | (control & 4) << 4 | (control & 8) << 4
    }
}
