// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VMMSymMod

/// The archive as the kernel reads it (Linux init/initramfs.c).
@Suite struct InitramfsSegmentTests {
    private struct Entry: Equatable {
        var name: String
        var mode: Int
        var links: Int
        var device: [Int]
        var contents: [UInt8]
    }

    /// Reads an archive; nil where the kernel would find a fault.
    private func entries(_ bytes: [UInt8]) -> [Entry]? {
        var entries: [Entry] = []
        var inodes: Set<Int> = []
        var offset = 0
        while true {
            guard offset % 4 == 0, offset + 110 <= bytes.count, Array(bytes[offset..<(offset + 6)]) == Array("070701".utf8) else {
                return nil
            }
            let numbers = (0..<13).compactMap { index in
                let start = offset + 6 + 8 * index
                return Int(String(decoding: bytes[start..<(start + 8)], as: UTF8.self), radix: 16)
            }
            guard numbers.count == 13 else { return nil }
            let name = bytes[(offset + 110)...].prefix(numbers[11])
            guard name.last == 0, name.firstIndex(of: 0) == name.endIndex - 1 else { return nil }
            let start = (offset + 110 + numbers[11] + 3) & ~3
            guard start + numbers[6] <= bytes.count else { return nil }
            let text = String(decoding: name.dropLast(), as: UTF8.self)
            if text == "TRAILER!!!" { return start == bytes.count ? entries : nil }
            // Equal inodes would be one file with several names.
            guard inodes.insert(numbers[0]).inserted, numbers[2] == 0, numbers[3] == 0 else { return nil }
            entries.append(
                Entry(
                    name: text, mode: numbers[1], links: numbers[4], device: [numbers[9], numbers[10]],
                    contents: Array(bytes[start..<(start + numbers[6])])))
            offset = (start + numbers[6] + 3) & ~3
        }
    }

    @Test func theGuestGetsTheModuleAndItsFirstProcess() throws {
        for (module, program) in [([1, 2, 3], [4]), ([], [5, 6, 7, 8]), ([UInt8](repeating: 9, count: 4097), [1, 2])]
            as [([UInt8], [UInt8])]
        {
            let entries = try #require(self.entries(InitramfsSegment.bringing(module: module, firstProcess: program)))
            #expect(
                entries == [
                    Entry(name: ".symvmm", mode: 0o040700, links: 2, device: [0, 0], contents: []),
                    Entry(name: ".symvmm/mnt", mode: 0o040700, links: 2, device: [0, 0], contents: []),
                    Entry(name: ".symvmm/kmsg", mode: 0o020600, links: 1, device: [1, 11], contents: []),
                    Entry(name: ".symvmm/init", mode: 0o100700, links: 1, device: [0, 0], contents: program),
                    Entry(name: ".symvmm/symbiotic.ko", mode: 0o100600, links: 1, device: [0, 0], contents: module),
                ])
        }
    }

    @Test func anArchiveWithoutFilesHasOnlyItsEnd() {
        #expect(entries(InitramfsSegment().finished()) == [])
    }

    /// The parameter starts the program that the archive has.
    @Test func theParameterNamesTheFirstProcess() throws {
        let names = try #require(self.entries(InitramfsSegment.bringing(module: [], firstProcess: []))).map(\.name)
        let path = InitramfsSegment.parameter.dropFirst("rdinit=/".count)
        #expect(names.contains(String(path)))
    }
}
