// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Glibc

/// Another process by its pidfd (pidfd_open(2)), which, unlike the number, never refers to a later process.
package struct RunningProcess: ~Copyable {
    /// The process's number in this PID namespace.
    package let pid: Int32
    private let descriptor: OwnedFileDescriptor

    /// The process that listens at the other end of a Unix socket (unix(7), SO_PEERCRED); nil if it has ended or is in another PID namespace.
    package init?(behind socket: Int32) {
        pid = ckvm_peer_pid(socket)
        let number = pid > 0 ? ckvm_open_process(pid) : -1
        guard number >= 0 else { return nil }
        descriptor = OwnedFileDescriptor(owning: number)
    }

    /// Waits until the process has ended and its files are closed, or until the timeout.
    ///
    /// - Returns: whether it has ended.
    @discardableResult
    package func waitForEnd(milliseconds: Int32) -> Bool {
        var event = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: the call reads and writes only the variable.
        return unsafe poll(&event, 1, milliseconds) > 0
    }

    /// Kills the process with SIGKILL, which it cannot handle, block or delay, also when it is stopped.
    package func kill() throws(VMMError) {
        _ = try VMMError.check(ckvm_signal_process(descriptor.rawValue, SIGKILL), "kill process \(pid)")
    }

    /// Whether the process is stopped by a signal or a debugger (proc(5), the state in /proc/PID/stat): it answers nobody.
    package var isStopped: Bool {
        guard let text = try? SmallFile.read("/proc/\(pid)/stat", atMost: 4096),
            // The name in parentheses may contain anything, also parentheses.
            let end = text.lastIndex(of: UInt8(ascii: ")")), text.count > end + 2
        else { return false }
        return [UInt8(ascii: "T"), UInt8(ascii: "t")].contains(text[end + 2])
    }
}
