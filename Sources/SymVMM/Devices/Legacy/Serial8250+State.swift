// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase

extension Serial8250: Snapshotable {
    /// The registers, and the input that the guest has not read.
    struct State: Codable, Sendable, Equatable {
        var interruptEnable: UInt8
        var fifosEnabled: Bool
        var lineControl: UInt8
        var modemControl: UInt8
        var scratch: UInt8
        var divisor: UInt16
        var transmitterEmptyPending: Bool
        /// The oldest byte first.
        var received: [UInt8]
    }

    static let stateKind = "serial"

    func saveState() throws(VMMError) -> State {
        registers.withLock { registers in
            State(
                interruptEnable: registers.interruptEnable, fifosEnabled: registers.fifosEnabled, lineControl: registers.lineControl,
                modemControl: registers.modemControl, scratch: registers.scratch, divisor: registers.divisor,
                transmitterEmptyPending: registers.transmitterEmptyPending,
                received: (0..<registers.fifoCount).map { registers.fifo[(registers.fifoStart + $0) % Serial8250.fifoCapacity] })
        }
    }

    func restoreState(_ state: State) throws(VMMError) {
        guard state.received.count <= Serial8250.fifoCapacity else {
            throw .user("the serial port's state has \(state.received.count) bytes of input; the FIFO holds \(Serial8250.fifoCapacity)")
        }
        guard state.interruptEnable & ~InterruptEnable.all == 0, state.modemControl & ~ModemControl.all == 0 else {
            throw .user("the serial port's state sets bits of registers that do not exist")
        }
        registers.withLock { registers in
            registers = Registers()
            registers.interruptEnable = state.interruptEnable
            registers.fifosEnabled = state.fifosEnabled
            registers.lineControl = state.lineControl
            registers.modemControl = state.modemControl
            registers.scratch = state.scratch
            registers.divisor = state.divisor
            registers.transmitterEmptyPending = state.transmitterEmptyPending
            registers.isSuspended = true
            registers.fifoCount = state.received.count
            for (index, byte) in state.received.enumerated() { registers.fifo[index] = byte }
        }
    }

}
