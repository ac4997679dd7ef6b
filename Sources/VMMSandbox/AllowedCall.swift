// SPDX-License-Identifier: Apache-2.0

/// A condition on one argument of a system call. Arguments count from 0.
package enum ArgumentCheck: Sendable, Equatable {
    /// All 64 bits are one of these values.
    case oneOf(Int, [UInt64])
    /// None of these of the lower 32 bits is set.
    case without(Int, UInt32)
    /// All of these of the lower 32 bits are set.
    case with(Int, UInt32)
    /// The number of this process.
    case ownProcess(Int)
}

/// A system call that the threads of a role may make, and what for.
package struct AllowedCall: Sendable {
    /// The call.
    package let call: SystemCall
    /// What the threads need it for.
    package let reason: String
    /// The arguments must meet all of these.
    package let checks: [ArgumentCheck]

    /// Describes an allowed call. If a role has several of the same call, the arguments must meet the checks of one of them.
    package static func allow(_ call: SystemCall, _ reason: String, _ checks: ArgumentCheck...) -> AllowedCall {
        AllowedCall(call: call, reason: reason, checks: checks)
    }
}
