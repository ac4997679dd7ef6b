// SPDX-License-Identifier: Apache-2.0

/// Why a virtual machine could not be made or started.
public struct MachineError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Whose fault it is.
    public enum Kind: Sendable {
        /// What the user asked for cannot be: a wrong file, too much memory.
        case configuration
        /// The host does not have what is needed.
        case host
    }

    /// Whose fault it is.
    public let kind: Kind
    /// One line: what is wrong and what to do.
    public let description: String

    /// Describes an error.
    public init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    /// A Linux guest on a KVM in software, where it would hang early.
    package static let noHardwareVirtualization = MachineError(
        .host,
        "this host's processor has neither svm nor vmx, so its KVM cannot run a Linux kernel: use a host with hardware virtualization, or the "
            + "lab (scripts/lab)")

    /// Makes something of the host's, and tells of a failure as the host's.
    package static func host<Value: ~Copyable>(_ make: () throws(KVMError) -> Value) throws(MachineError) -> Value {
        do throws(KVMError) {
            return try make()
        } catch {
            throw MachineError(.host, error.description)
        }
    }
}
