// SPDX-License-Identifier: Apache-2.0

internal import SymVMM

/// The engine's machine is the control plane's.
extension VirtualMachine: MachineControl {
}
