// SPDX-License-Identifier: Apache-2.0

internal import VMMBase

internal import SymVMM

extension VirtualMachine: MachineControl {
    /// Hands a byte to the serial port; false when its FIFO is full.
    package func receive(_ byte: UInt8) -> Bool {
        serial.receive(byte)
    }
}
