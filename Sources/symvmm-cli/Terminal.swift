// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMAPI
internal import VMMBase

/// Writes to standard output and standard error.
enum Terminal {
    /// Writes text to standard output.
    static func output(_ text: String) {
        write(STDOUT_FILENO, text)
    }

    /// Writes a line to standard error.
    static func error(_ line: String) {
        write(STDERR_FILENO, line + "\n")
    }

    /// Writes a value as indented JSON to standard output.
    static func json(_ value: some Encodable) throws {
        let bytes = try JSONText.encode(value, pretty: true)
        output(String(decoding: bytes, as: UTF8.self) + "\n")
    }

    private static func write(_ number: Int32, _ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the slice's, which lives for the call.
                unsafe Glibc.write(number, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return exitAfterFailedWrite(number) }
            rest = rest.dropFirst(count)
        }
    }

    /// Exits if standard output cannot be written. After a closed pipe it restores SIGPIPE's default action, which NIO replaced, so that the signal
    /// ends the command. `run` and `serve` call this only after the VM has ended.
    private static func exitAfterFailedWrite(_ number: Int32) {
        guard number == STDOUT_FILENO else { return }
        if errno == EPIPE {
            signal(SIGPIPE, SIG_DFL)
            raise(SIGPIPE)
        }
        error("symvmm: \(VMMError(call: "write to standard output", errno: errno))")
        Glibc.exit(ExitStatus.host.rawValue)
    }
}
