// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Files that are read or written whole.
package enum SmallFile {
    /// Reads a regular file of at most `limit` bytes.
    package static func read(_ path: String, atMost limit: Int) throws(KVMError) -> [UInt8] {
        // O_NONBLOCK: a FIFO that nobody writes must not keep us.
        let file = try FileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(file.rawValue, &status) == 0 else { throw KVMError.last("stat \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw KVMError(call: "read \(path)", errno: EINVAL, advice: "it is not a regular file")
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            // SAFETY: the array has as many bytes as is said.
            let count = unsafe Glibc.read(file.rawValue, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw KVMError.last("read \(path)") }
            guard count > 0 else { return bytes }
            bytes += chunk.prefix(count)
            guard bytes.count <= limit else {
                throw KVMError(call: "read \(path)", errno: EFBIG, advice: "at most \(limit) bytes are read")
            }
        }
    }

    /// Replaces or makes a file so that a reader sees all of the old or all of the new: a temporary file beside it, synchronised, is renamed.
    ///
    /// What is not a regular file (a FIFO, /dev/stdout) is written directly.
    package static func write(_ path: String, _ bytes: [UInt8]) throws(KVMError) {
        var status = stat()
        // SAFETY: the string lives for the call, which writes only the variable.
        if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            let file = try FileDescriptor.open(path, O_WRONLY)
            try writeAll(file, bytes, path)
            return
        }
        let temporary = "\(path).\(getpid()).tmp"
        let file = try FileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
        do throws(KVMError) {
            try writeAll(file, bytes, path)
            guard fsync(file.rawValue) == 0 else { throw KVMError.last("write \(path)") }
            // SAFETY: both strings live for the call.
            guard unsafe rename(temporary, path) == 0 else { throw KVMError.last("rename \(temporary) to \(path)") }
        } catch {
            // SAFETY: the string lives for the call.
            _ = unsafe unlink(temporary)
            throw error
        }
    }

    private static func writeAll(_ file: borrowing FileDescriptor, _ bytes: [UInt8], _ path: String) throws(KVMError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the slice's, which lives for the call.
                unsafe Glibc.write(file.rawValue, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw KVMError.last("write \(path)") }
            rest = rest.dropFirst(count)
        }
    }
}
