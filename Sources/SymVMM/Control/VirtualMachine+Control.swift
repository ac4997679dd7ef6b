// SPDX-License-Identifier: Apache-2.0

extension VirtualMachine: MachineControl {}

/// The version of symvmm.
public enum SymVMMVersion {
    /// In words: `0.1.0`.
    public static let current = "0.1.0"
}

extension ControlError {
    /// A machine's error for the command: a wrong configuration is the user's matter.
    public init(_ error: MachineError) {
        switch error.kind {
        case .configuration: self = .usage(error.description)
        case .host: self = .host(error.description)
        }
    }
}
