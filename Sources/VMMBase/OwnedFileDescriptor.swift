// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Owns a file descriptor and closes it.
///
/// Thread-safe: the kernel serializes the calls that need it.
public struct OwnedFileDescriptor: ~Copyable, Sendable {
    /// The number, for system calls while the owner lives. Do not close it.
    public let rawValue: Int32

    /// Takes ownership of an open descriptor.
    public init(owning rawValue: Int32) {
        self.rawValue = rawValue
    }

    deinit {
        close(rawValue)
    }

    /// Opens a file with `O_CLOEXEC`. Retries on EINTR (open(2)).
    public static func open(_ path: String, _ flags: Int32, mode: UInt32 = 0o600) throws(VMMError) -> OwnedFileDescriptor {
        while true {
            // SAFETY: the string lives for the call, which copies it.
            let number = unsafe Glibc.open(path, flags | O_CLOEXEC, mode)
            if number >= 0 { return OwnedFileDescriptor(owning: number) }
            if errno != EINTR { throw VMMError.last("open \(path)") }
        }
    }

    /// Duplicates the descriptor (F_DUPFD_CLOEXEC of fcntl(2)): the same open file and lock, without a second path lookup.
    public func duplicate() throws(VMMError) -> OwnedFileDescriptor {
        let number = fcntl(rawValue, F_DUPFD_CLOEXEC, 0)
        guard number >= 0 else { throw VMMError.last("fcntl", advice: "raise the limit of open files (ulimit -n)") }
        return OwnedFileDescriptor(owning: number)
    }
}
