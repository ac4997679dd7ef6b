// SPDX-License-Identifier: Apache-2.0

/// A request of the user that cannot be met: in one line what is wrong, and whose matter it is.
public struct ControlError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Whose matter it is; decides the command's exit status.
    public enum Kind: Sendable {
        /// The user asked for something that does not exist or makes no sense: exit status 2.
        case usage
        /// The host cannot do it: exit status 3.
        case host
    }

    /// Whose matter it is.
    public let kind: Kind
    /// One line, without a final stop.
    public let message: String

    /// Describes an error.
    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    /// An error of the user's.
    public static func usage(_ message: String) -> ControlError {
        ControlError(.usage, message)
    }

    /// An error of the host's.
    public static func host(_ message: String) -> ControlError {
        ControlError(.host, message)
    }

    /// The message.
    public var description: String {
        message
    }
}

extension ControlError {
    /// A machine's error for the command: a wrong configuration is the user's matter.
    package init(_ error: MachineError) {
        switch error.kind {
        case .configuration: self = .usage(error.description)
        case .host: self = .host(error.description)
        }
    }
}
