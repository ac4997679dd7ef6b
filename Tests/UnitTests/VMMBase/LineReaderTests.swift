// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import VMMBase

@Suite struct LineReaderTests {
    private func lines(_ text: [UInt8], limit: Int = 1 << 20) throws -> (lines: [[UInt8]], isComplete: Bool) {
        let folder = try TemporaryFolder()
        let path = folder.path + "/lines"
        try SmallFile.write(path, text)
        var reader = try LineReader(path, lineLimit: limit)
        var lines: [[UInt8]] = []
        while let line = try reader.next() {
            lines.append(line)
            if !reader.isComplete { return (lines, false) }
        }
        return (lines, true)
    }

    @Test func linesWithAndWithoutAnEnd() throws {
        #expect(try lines([]).lines == [])
        #expect(try lines(Array("a\n\nbc\n".utf8)).lines == ["a", "", "bc"].map { Array($0.utf8) })
        let cut = try lines(Array("a\nbc".utf8))
        #expect(cut.lines == ["a", "bc"].map { Array($0.utf8) })
        #expect(!cut.isComplete)
    }

    @Test func linesLongerThanTheBuffer() throws {
        let long = [UInt8](repeating: 0x61, count: 200_000)
        #expect(try lines(long + [10] + [0x62, 10] + long + [10]).lines == [long, [0x62], long])
        #expect(throws: VMMError.self) { try lines(long + [10], limit: 199_999) }
        #expect(throws: VMMError.self) { try lines(long, limit: 100) }
        #expect(throws: VMMError.self) { _ = try LineReader("/dev/null", lineLimit: 10) }
        #expect(throws: VMMError.self) { _ = try LineReader("/nonexistent", lineLimit: 10) }
    }
}
