// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// A call to the kernel that failed: which, why, and what the user can do about it.
public struct KVMError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The call as the manual names it, with the object it was made on: `open /dev/kvm`, `KVM_CREATE_VM`.
    public let call: String
    /// The kernel's error number (positive).
    public let errno: Int32
    /// What the user can do, one sentence without a final stop; empty when there is nothing to say.
    public let advice: String

    /// Describes a failed call. `errno` is positive; a shim's `-errno` has to be negated by the caller.
    public init(call: String, errno: Int32, advice: String = "") {
        self.call = call
        self.errno = errno
        self.advice = advice
    }

    /// One line: the call, the kernel's words, the advice.
    public var description: String {
        let reason = "\(call): \(KVMError.message(errno))"
        return advice.isEmpty ? reason : "\(reason): \(advice)"
    }

    /// The C library's words for an error number.
    public static func message(_ errno: Int32) -> String {
        var buffer = [CChar](repeating: 0, count: 128)
        // SAFETY: the buffer is as long as is said, and the shim ends what it writes with a zero byte.
        _ = unsafe ckvm_error_message(errno, &buffer, buffer.count)
        let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Turns a shim's answer (a value, or `-errno`) into a value or a thrown error.
    package static func check(
        _ result: Int32, _ call: @autoclosure () -> String, advice: @autoclosure () -> String = ""
    ) throws(KVMError) -> Int32 {
        guard result >= 0 else { throw KVMError(call: call(), errno: -result, advice: advice()) }
        return result
    }

    /// The error of the C library's last call on this thread.
    package static func last(_ call: String, advice: String = "") -> KVMError {
        KVMError(call: call, errno: Glibc.errno, advice: advice)
    }
}
