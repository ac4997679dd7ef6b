// SPDX-License-Identifier: Apache-2.0

internal import Glibc

extension FileDescriptor {
    /// What to do with a FIFO that has no reader.
    package enum UnreadFIFO: Sendable {
        /// Open it all the same. Writes fail with EAGAIN when its buffer is full.
        case keepOpen
        /// Do not open it: nil, and the caller tries again later.
        case wait
    }

    /// Opens a file (creating it, for its owner alone) or a FIFO for append; never blocks.
    package static func openForAppending(_ path: String, unreadFIFO: UnreadFIFO = .keepOpen) throws(KVMError) -> FileDescriptor? {
        // Read and write: opened to write only, a FIFO without a reader is an error (fifo(7)), and a reader who leaves ends it.
        if unreadFIFO == .keepOpen, isFIFO(path) { return try open(path, O_RDWR | O_NONBLOCK | O_NOCTTY) }
        do throws(KVMError) {
            return try open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY)
        } catch {
            if unreadFIFO == .wait, error.errno == ENXIO, isFIFO(path) { return nil }
            throw error
        }
    }

    /// Whether there is a FIFO at a path.
    package static func isFIFO(_ path: String) -> Bool {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
    }
}
