// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// A pseudo-terminal (pty(7)) whose other side a user opens, for instance with `screen /dev/pts/4`.
struct PseudoTerminal: ~Copyable, Sendable {
    /// Our side.
    let master: FileDescriptor
    /// The other side, kept open: without it, every reader who leaves would hang up our side.
    private let replica: FileDescriptor
    /// Path of the other side.
    let path: String

    init() throws(KVMError) {
        var numbers: (master: Int32, replica: Int32) = (-1, -1)
        // SAFETY: the call writes the two variables; it is asked for neither name, mode nor size.
        guard unsafe openpty(&numbers.master, &numbers.replica, nil, nil, nil) == 0 else { throw KVMError.last("openpty") }
        let master = FileDescriptor(owning: numbers.master)
        let replica = FileDescriptor(owning: numbers.replica)
        for number in [numbers.master, numbers.replica] { _ = fcntl(number, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(numbers.master, F_SETFL, O_RDWR | O_NONBLOCK)
        // SAFETY: the C library ends the name with a zero byte; it is copied before another call can change it.
        guard let name = unsafe ttyname(numbers.replica) else { throw KVMError.last("ttyname") }
        let path = unsafe String(cString: name)
        var mode = termios()
        // Raw: without it our own output would be echoed back as input until somebody sets the mode.
        // SAFETY: the calls read and write only the variable.
        guard unsafe tcgetattr(replica.rawValue, &mode) == 0 else { throw KVMError.last("tcgetattr \(path)") }
        unsafe cfmakeraw(&mode)
        guard unsafe tcsetattr(replica.rawValue, TCSANOW, &mode) == 0 else { throw KVMError.last("tcsetattr \(path)") }
        self.master = master
        self.replica = replica
        self.path = path
    }
}
