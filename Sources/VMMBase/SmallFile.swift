// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage

/// Reads and writes whole files.
package enum SmallFile {
    /// Reads a regular file of at most `limit` bytes.
    package static func read(_ path: String, atMost limit: Int) throws(VMMError) -> [UInt8] {
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        let file = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(file.rawValue, &status) == 0 else { throw VMMError.last("stat \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw VMMError(call: "read \(path)", errno: EINVAL, advice: "it is not a regular file")
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            // SAFETY: the array has `chunk.count` bytes.
            let count = unsafe Glibc.read(file.rawValue, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw VMMError.last("read \(path)") }
            guard count > 0 else { return bytes }
            bytes += chunk.prefix(count)
            guard bytes.count <= limit else {
                throw VMMError(call: "read \(path)", errno: EFBIG, advice: "at most \(limit) bytes are read")
            }
        }
    }

    /// Creates or replaces a file atomically: writes a temporary file beside it, synchronizes it, renames it.
    ///
    /// Writes to a FIFO or a device directly, and to the process's own descriptor for /dev/stdout, /dev/stderr and /dev/fd/N. Waits at most
    /// `patience` milliseconds for a reader to take the next bytes, and not once `isCancelled` returns true; a FIFO must have a reader.
    package static func write(
        _ path: String, _ bytes: [UInt8], patience: Int32 = 10_000, isCancelled: () -> Bool = { false }
    ) throws(VMMError) {
        if let number = ownDescriptor(path) {
            try writeAll(number, bytes, path, patience, isCancelled)
            return
        }
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            try writeAll(openForWriting(path, status), bytes, path, patience, isCancelled)
            return
        }
        let temporary = "\(path).\(getpid()).tmp"
        let file = try OwnedFileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
        do throws(VMMError) {
            try writeAll(file, bytes, path, patience, isCancelled)
            guard fsync(file.rawValue) == 0 else { throw VMMError.last("write \(path)") }
            // SAFETY: both strings live for the call.
            guard unsafe rename(temporary, path) == 0 else { throw VMMError.last("rename \(temporary) to \(path)") }
        } catch {
            // SAFETY: the string lives for the call.
            _ = unsafe unlink(temporary)
            throw error
        }
    }

    /// Whether `write` creates or replaces a file at the path, and does not write to what is there.
    package static func isReplaced(_ path: String) -> Bool {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        return ownDescriptor(path) == nil && (unsafe stat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFREG)
    }

    /// The descriptor that a path in /dev names: its file must be neither opened again nor replaced.
    private static func ownDescriptor(_ path: String) -> Int32? {
        switch path {
        case "/dev/stdout": STDOUT_FILENO
        case "/dev/stderr": STDERR_FILENO
        default: path.hasPrefix("/dev/fd/") ? Int32(path.dropFirst(8)) : nil
        }
    }

    /// Opens a FIFO or a device without waiting.
    private static func openForWriting(_ path: String, _ status: stat) throws(VMMError) -> OwnedFileDescriptor {
        do throws(VMMError) {
            return try OwnedFileDescriptor.open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY)
        } catch {
            guard error.errno == .noSuchAddressOrDevice, status.st_mode & S_IFMT == S_IFIFO else { throw error }
            throw VMMError(call: error.what, errno: error.errno, advice: "the FIFO has no reader")
        }
    }

    /// The file stays open for the call.
    private static func writeAll(
        _ file: borrowing OwnedFileDescriptor, _ bytes: [UInt8], _ path: String, _ patience: Int32, _ isCancelled: () -> Bool
    ) throws(VMMError) {
        try writeAll(file.rawValue, bytes, path, patience, isCancelled)
    }

    /// Milliseconds after which a wait looks whether it is cancelled.
    private static let waitSlice: Int32 = 100

    /// Writes in pieces that a pipe takes without blocking once poll(2) reports room (PIPE_BUF, pipe(7)).
    private static func writeAll(
        _ number: Int32, _ bytes: [UInt8], _ path: String, _ patience: Int32, _ isCancelled: () -> Bool
    ) throws(VMMError) {
        var rest = bytes[...]
        var waited: Int32 = 0
        while !rest.isEmpty {
            var entry = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
            // SAFETY: one entry, which outlives the call.
            let ready = unsafe poll(&entry, 1, min(patience, waitSlice))
            if ready < 0, errno == EINTR { continue }
            if ready == 0 {
                waited += min(patience, waitSlice)
                if waited < patience, !isCancelled() { continue }
                throw VMMError(call: "write \(path)", errno: ETIMEDOUT, advice: "its reader has taken nothing for \(waited / 1000) s")
            }
            waited = 0
            let count = unsafe rest.prefix(4096).withUnsafeBytes { buffer in
                // SAFETY: the buffer is the slice's, which lives for the call.
                unsafe Glibc.write(number, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR || errno == EAGAIN { continue }
            guard count > 0 else { throw VMMError.last("write \(path)") }
            rest = rest.dropFirst(count)
        }
    }
}
