// SPDX-License-Identifier: Apache-2.0

public import SystemPackage

internal import Glibc

/// Why symvmm could not do something: who caused it, what was tried, the kernel's error number, and what the user can do.
///
/// symvmm has four other error types, all small enums: devices turn `GuestAddressError` and `StorageError` into a virtio status, the exit path
/// throws and counts `SymCallFailure` without forming a string, and `APIError` has the HTTP status of an answer.
public struct VMMError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Who caused the error. The kind decides the exit status of the command and the status of an API answer.
    public enum Kind: Sendable {
        /// The user: a request for something that does not exist or is invalid. Exit status 2.
        case user
        /// The host: it lacks a resource or a feature, or denies access. Exit status 3.
        case host
        /// The guest: the VMM cannot continue after what the guest did. Exit status 3.
        case guest
        /// A bug of symvmm. Exit status 3; the user can only report it.
        case bug
    }

    /// Who caused the error.
    public let kind: Kind
    /// What was tried (`open /dev/kvm`, `KVM_CREATE_VM`: the call as its manual names it), or what is wrong. Without a final stop.
    public let what: String
    /// The kernel's error number; nil if no system call failed.
    public let errno: Errno?
    /// What the user can do, one sentence without a final stop; empty if there is no advice.
    public let advice: String

    /// Describes an error without an error number.
    public init(_ kind: Kind, _ what: String, advice: String = "") {
        self.init(kind, what, nil, advice)
    }

    /// Describes a failed call. `errno` is positive: the caller negates a shim's `-errno`.
    public init(_ kind: Kind = .host, call: String, errno: Int32, advice: String = "") {
        self.init(kind, call, Errno(rawValue: errno), advice)
    }

    /// Describes a failed call whose error number another error has.
    public init(_ kind: Kind = .host, call: String, errno: Errno?, advice: String = "") {
        self.init(kind, call, errno, advice)
    }

    private init(_ kind: Kind, _ what: String, _ errno: Errno?, _ advice: String) {
        self.kind = kind
        self.what = what
        self.errno = errno
        self.advice = advice
    }

    /// An error that the user caused, without an error number.
    public static func user(_ what: String) -> VMMError {
        VMMError(.user, what)
    }

    /// An error that the host caused, without an error number.
    public static func host(_ what: String) -> VMMError {
        VMMError(.host, what)
    }

    /// A bug of symvmm, or of the program that embeds it.
    public static func bug(_ what: String) -> VMMError {
        VMMError(.bug, what)
    }

    /// The same error with the name of the part that failed: `drive 'a': open /a.img: No such file or directory`.
    public func of(_ part: String, _ kind: Kind? = nil) -> VMMError {
        VMMError(kind ?? self.kind, "\(part): \(what)", errno, advice)
    }

    /// The same error with another kind.
    public func asking(_ kind: Kind) -> VMMError {
        VMMError(kind, what, errno, advice)
    }

    /// One line: what was tried, the C library's text for the error number, the advice.
    public var description: String {
        var parts = [what]
        if let errno { parts.append(errno.description) }
        if !advice.isEmpty { parts.append(advice) }
        return parts.joined(separator: ": ")
    }

    /// Returns a shim function's result, or throws an error if the result is `-errno`.
    package static func check(
        _ result: Int32, _ call: @autoclosure () -> String, advice: @autoclosure () -> String = ""
    ) throws(VMMError) -> Int32 {
        guard result >= 0 else { throw VMMError(call: call(), errno: -result, advice: advice()) }
        return result
    }

    /// The error of this thread's last C library call.
    package static func last(_ call: String, advice: String = "") -> VMMError {
        VMMError(call: call, errno: Glibc.errno, advice: advice)
    }
}
