// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// A file or FIFO that takes whole lines and never blocks its writer.
///
/// A FIFO is opened when it has a reader, and again when another one comes. A line that was begun is finished before the next one begins.
/// SIGPIPE has to be ignored by the process.
struct LineOutput: ~Copyable {
    private let path: String
    private var file: FileDescriptor?
    /// What is left of a line that went out in part.
    private var rest: ArraySlice<UInt8> = []

    /// Opens or makes a file, to write at its end; a FIFO waits for its reader.
    init(path: String) throws(KVMError) {
        self.path = path
        file = try LineOutput.open(path)
    }

    /// nil for a FIFO that nobody reads.
    private static func open(_ path: String) throws(KVMError) -> FileDescriptor? {
        let folder = try Folder(of: path)
        do throws(KVMError) {
            return try folder.openForAppending(O_WRONLY)
        } catch {
            // A FIFO that nobody reads, or a socket; only the first can be opened to read as well.
            guard error.errno == ENXIO, try folder.openForAppending(O_RDWR).isFIFO else { throw error }
            return nil
        }
    }

    /// Writes a line, which has its newline.
    ///
    /// - Returns: false when nobody takes it now: nothing of it was written, and nothing will be.
    mutating func write(_ line: [UInt8]) throws(KVMError) -> Bool {
        if file == nil { file = try LineOutput.open(path) }
        guard file != nil, try writeRest(), rest.isEmpty, file != nil else { return false }
        rest = line[...]
        do throws(KVMError) {
            let isTaken = try writeRest()
            if !isTaken, rest.count == line.count { rest = [] }
            return isTaken
        } catch {
            // One that was begun is finished later, and so counts as taken.
            guard rest.count == line.count else { return true }
            rest = []
            throw error
        }
    }

    /// Writes what is left; false when nothing of it went out, though there is something.
    private mutating func writeRest() throws(KVMError) -> Bool {
        guard let number = file?.rawValue else { return false }
        let before = rest.count
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // SAFETY: the buffer is the slice's, which lives for the call.
                unsafe Glibc.write(number, buffer.baseAddress, buffer.count)
            }
            if count > 0 {
                rest = rest.dropFirst(count)
                continue
            }
            switch errno {
            case EINTR: continue
            case EAGAIN: return rest.count < before
            case EPIPE:
                // The reader has left, and with it whoever had the beginning of the line.
                file = nil
                rest = []
                return false
            default: throw KVMError.last("write \(path)")
            }
        }
        return true
    }
}
