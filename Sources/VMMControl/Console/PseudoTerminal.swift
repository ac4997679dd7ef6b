// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// A pseudo-terminal (pty(7)). A user opens its other side, for instance with `screen /dev/pts/4`.
struct PseudoTerminal: ~Copyable, Sendable {
    /// Our side.
    let master: OwnedFileDescriptor
    /// The other side. We keep it open: when the last process closes it, reads from our side fail with EIO.
    private let replica: OwnedFileDescriptor
    /// Path of the other side.
    let path: String

    init() throws(VMMError) {
        var numbers: (master: Int32, replica: Int32) = (-1, -1)
        // SAFETY: the call writes the two variables; name, mode and size are null.
        guard unsafe openpty(&numbers.master, &numbers.replica, nil, nil, nil) == 0 else { throw VMMError.last("openpty") }
        let master = OwnedFileDescriptor(owning: numbers.master)
        let replica = OwnedFileDescriptor(owning: numbers.replica)
        for number in [numbers.master, numbers.replica] { _ = fcntl(number, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(numbers.master, F_SETFL, O_RDWR | O_NONBLOCK)
        // SAFETY: the C library ends the name with a zero byte; it is copied before another call can change it.
        guard let name = unsafe ttyname(numbers.replica) else { throw VMMError.last("ttyname") }
        let path = unsafe String(cString: name)
        var mode = termios()
        // Raw mode: otherwise the terminal echoes our output back to us as input until a program sets the mode.
        guard unsafe tcgetattr(replica.rawValue, &mode) == 0 else { throw VMMError.last("tcgetattr \(path)") }
        unsafe cfmakeraw(&mode)
        guard unsafe tcsetattr(replica.rawValue, TCSANOW, &mode) == 0 else { throw VMMError.last("tcsetattr \(path)") }
        self.master = master
        self.replica = replica
        self.path = path
    }
}
