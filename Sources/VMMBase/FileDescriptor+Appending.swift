// SPDX-License-Identifier: Apache-2.0

internal import Glibc

extension FileDescriptor {
    /// Opens what text is appended to: a file, made with mode 0600 when it is missing, or a FIFO, of which no reader needs to be there. Never
    /// waits, and writes to a FIFO that nobody empties fail with EAGAIN. In a folder that others may write to no link is followed.
    package static func openForAppending(_ path: String) throws(KVMError) -> FileDescriptor {
        try Folder(of: path).openForAppending()
    }

    /// Whether a FIFO is open.
    package var isFIFO: Bool {
        var status = stat()
        // SAFETY: the call writes only the variable.
        return unsafe fstat(rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
    }
}
