// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage
internal import VMMBase

/// Writes whole lines to a file or FIFO; never blocks.
///
/// Opens a FIFO when it has a reader, and reopens it for the next reader. Finishes a partly written line before it begins the next.
struct LineOutput: ~Copyable {
    private let path: String
    private var file: OwnedFileDescriptor?
    /// The unwritten rest of a line.
    private var rest: ArraySlice<UInt8> = []

    /// Opens a file for append, creating it if needed. `write` opens a FIFO that has no reader yet.
    init(path: String) throws(VMMError) {
        self.path = path
        file = try LineOutput.open(path)
    }

    /// Returns nil for a FIFO without a reader.
    private static func open(_ path: String) throws(VMMError) -> OwnedFileDescriptor? {
        try FileThread.perform { () throws(VMMError) -> OwnedFileDescriptor? in try openHere(path) }
    }

    private static func openHere(_ path: String) throws(VMMError) -> OwnedFileDescriptor? {
        let folder = try Folder(of: path)
        do throws(VMMError) {
            return try folder.openForAppending(O_WRONLY)
        } catch {
            // A FIFO without a reader, or a socket. Only a FIFO can be opened read-write.
            guard error.errno == .noSuchAddressOrDevice, try folder.openForAppending(O_RDWR).isFIFO else { throw error }
            return nil
        }
    }

    /// Writes a line that ends with a newline.
    ///
    /// - Returns: false if the whole line was dropped.
    mutating func write(_ line: [UInt8]) throws(VMMError) -> Bool {
        if file == nil { file = try LineOutput.open(path) }
        guard file != nil, try writeRest(), rest.isEmpty, file != nil else { return false }
        rest = line[...]
        do throws(VMMError) {
            let isTaken = try writeRest()
            if !isTaken, rest.count == line.count { rest = [] }
            return isTaken
        } catch {
            // The next call finishes a partly written line, so the line counts as written.
            guard rest.count == line.count else { return true }
            rest = []
            throw error
        }
    }

    /// Writes the rest of a line. Returns false if there is a rest and the file took none of it, or if a FIFO has lost its reader.
    private mutating func writeRest() throws(VMMError) -> Bool {
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
                // The reader has closed the FIFO. Drop the rest: the next reader does not have the beginning of the line.
                file = nil
                rest = []
                return false
            default: throw VMMError.last("write \(path)")
            }
        }
        return true
    }
}
