// SPDX-License-Identifier: Apache-2.0

internal import Glibc

extension FileDescriptor {
    /// Opens what text is appended to: a file, made when it is missing, or a FIFO, of which no reader needs to be there. Never waits, and
    /// writes to a FIFO that nobody empties fail with EAGAIN.
    package static func openForAppending(_ path: String) throws(KVMError) -> FileDescriptor {
        // Read and write: opened to write only, a FIFO without a reader is an error (fifo(7)), and a reader who leaves ends it.
        if isFIFO(path) { return try open(path, O_RDWR | O_NONBLOCK | O_NOCTTY) }
        return try open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY, mode: 0o644)
    }

    /// Whether there is a FIFO at a path.
    package static func isFIFO(_ path: String) -> Bool {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
    }
}
