// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// Another process, as its descriptor (pidfd_open(2)): its number may be used again, this is always the same one.
package struct RunningProcess: ~Copyable {
    private let descriptor: FileDescriptor

    /// The process that listens where this Unix socket is connected to (unix(7), SO_PEERCRED); nil when it has gone, or lives in another
    /// namespace.
    package init?(behind socket: Int32) {
        let number = ckvm_peer_process(socket)
        guard number >= 0 else { return nil }
        descriptor = FileDescriptor(owning: number)
    }

    /// Waits until it has ended and its files are closed, or so long.
    package func waitForEnd(milliseconds: Int32) {
        var event = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: the call reads and writes only the variable.
        _ = unsafe poll(&event, 1, milliseconds)
    }
}
