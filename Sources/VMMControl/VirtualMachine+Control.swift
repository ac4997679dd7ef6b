// SPDX-License-Identifier: Apache-2.0

internal import SymVMM

/// The engine's machine has all the operations of the protocol.
extension VirtualMachine: MachineControl {
}
