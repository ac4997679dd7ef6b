// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The one owner of a file descriptor: closed when it goes out of scope.
///
/// May be used on any thread; the kernel serialises what has to be.
public struct FileDescriptor: ~Copyable, Sendable {
    /// The number, for system calls made while the owner lives. Never close it.
    public let rawValue: Int32

    /// Takes over an open descriptor.
    public init(owning rawValue: Int32) {
        self.rawValue = rawValue
    }

    deinit {
        close(rawValue)
    }

    /// Opens a file. `O_CLOEXEC` is added; the call is made again when a signal interrupts it (open(2)).
    public static func open(_ path: String, _ flags: Int32, mode: UInt32 = 0o600) throws(KVMError) -> FileDescriptor {
        while true {
            // SAFETY: the string lives for the call, which copies it.
            let number = unsafe Glibc.open(path, flags | O_CLOEXEC, mode)
            if number >= 0 { return FileDescriptor(owning: number) }
            if errno != EINTR { throw KVMError.last("open \(path)") }
        }
    }

    /// Another descriptor of the same open file (F_DUPFD_CLOEXEC of fcntl(2)): the same lock, and no second look at a name.
    public func duplicate() throws(KVMError) -> FileDescriptor {
        let number = fcntl(rawValue, F_DUPFD_CLOEXEC, 0)
        guard number >= 0 else { throw KVMError.last("fcntl", advice: "raise the limit of open files (ulimit -n)") }
        return FileDescriptor(owning: number)
    }
}
