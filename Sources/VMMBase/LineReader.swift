// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Reads a file line by line, in bounded memory, however long the file is.
package struct LineReader: ~Copyable {
    private let file: OwnedFileDescriptor
    private let path: String
    private let limit: Int
    private var chunk = [UInt8](repeating: 0, count: 65536)
    private var start = 0
    private var end = 0

    /// Whether the last line that `next()` returned ended with a newline.
    package private(set) var isComplete = true

    /// Opens a regular file.
    ///
    /// - Parameter limit: most bytes of a line.
    package init(_ path: String, lineLimit limit: Int) throws(VMMError) {
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        let opened = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        try LineReader.checkKind(opened, path)
        file = opened
        self.path = path
        self.limit = limit
    }

    private static func checkKind(_ file: borrowing OwnedFileDescriptor, _ path: String) throws(VMMError) {
        var status = stat()
        // SAFETY: the call writes only the variable.
        guard unsafe fstat(file.rawValue, &status) == 0 else { throw VMMError.last("stat \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw VMMError(call: "read \(path)", errno: EINVAL, advice: "it is not a regular file")
        }
    }

    /// The next line without its newline; nil at the end of the file.
    package mutating func next() throws(VMMError) -> [UInt8]? {
        var line: [UInt8] = []
        while true {
            if start == end {
                guard try fill() else {
                    isComplete = false
                    return line.isEmpty ? nil : line
                }
            }
            let part = chunk[start..<end]
            guard let newline = part.firstIndex(of: UInt8(ascii: "\n")) else {
                line += part
                start = end
                try check(line)
                continue
            }
            line += part[..<newline]
            start = newline + 1
            try check(line)
            isComplete = true
            return line
        }
    }

    private func check(_ line: [UInt8]) throws(VMMError) {
        guard line.count <= limit else {
            throw VMMError(call: "read \(path)", errno: EFBIG, advice: "a line has at most \(limit) bytes")
        }
    }

    /// Reads the next bytes; false at the end of the file.
    private mutating func fill() throws(VMMError) -> Bool {
        while true {
            // SAFETY: the array has `chunk.count` bytes.
            let count = unsafe Glibc.read(file.rawValue, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw VMMError.last("read \(path)") }
            (start, end) = (0, count)
            return count > 0
        }
    }
}
