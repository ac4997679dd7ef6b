// SPDX-License-Identifier: Apache-2.0

internal import Glibc

extension OwnedFileDescriptor {
    /// Opens a file (creating it with mode 0600) or a FIFO for append; never blocks. A write to a full FIFO fails with EAGAIN. Does not follow links
    /// in a folder that others can write to.
    package static func openForAppending(_ path: String) throws(VMMError) -> OwnedFileDescriptor {
        try Folder(of: path).openForAppending()
    }

    /// Whether the descriptor is a FIFO.
    package var isFIFO: Bool {
        var status = stat()
        // SAFETY: the call writes only the variable.
        return unsafe fstat(rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
    }
}
