// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VMMBase

@testable import VMMJail

/// What a hostile program leaves in its folder must not keep the jail from being removed.
@Suite struct FolderContentsTests {
    private let folder = try? TemporaryFolder()

    /// Makes `run` in the folder, lets `fill` put something there, and removes it.
    private func isRemoved(_ fill: (String) -> Void) throws -> Bool {
        let folder = try #require(folder)
        let run = folder.path + "/run"
        try #require(unsafe mkdir(run, 0o700) == 0)
        fill(run)
        let parent = try OwnedFileDescriptor.open(folder.path, O_RDONLY | O_DIRECTORY)
        let isGone = FolderContents.removeFolder("run", in: parent)
        return unsafe isGone && access(run, F_OK) != 0
    }

    @Test func namesNeedNotBeUTF8() throws {
        let isGone = try isRemoved { run in
            for name in [[0xff], [0xc3, 0x28], [0x61, 0x80, 0x62], [0x2e, 0xff]] as [[UInt8]] {
                var path = run.utf8.map(CChar.init(bitPattern:)) + [CChar(bitPattern: UInt8(ascii: "/"))]
                path += name.map(CChar.init(bitPattern:)) + [0]
                #expect(unsafe mkdir(path, 0o700) == 0)
                path.removeLast()
                path += ["/", "i", "n"].flatMap { $0.utf8.map(CChar.init(bitPattern:)) } + [CChar(bitPattern: 0xfe), 0]
                #expect(unsafe close(creat(path, 0o600)) == 0)
            }
        }
        #expect(isGone)
    }

    @Test func foldersOfAnyDepthGo() throws {
        let isGone = try isRemoved { run in
            var path = run
            for _ in 0..<200 {
                path += "/d"
                #expect(unsafe mkdir(path, 0o700) == 0)
                #expect(unsafe close(creat(path + "/f", 0o600)) == 0)
            }
        }
        #expect(isGone)
    }

    @Test func linksAreRemovedAndNotFollowed() throws {
        let kept = try TemporaryFolder()
        try SmallFile.write(kept.path + "/file", [1])
        let isGone = try isRemoved { run in
            #expect(unsafe symlink(kept.path, run + "/folder") == 0)
            #expect(unsafe symlink(kept.path + "/file", run + "/file") == 0)
            // A folder without permissions, which an ordinary user cannot read.
            #expect(unsafe mkdir(run + "/closed", 0o700) == 0)
            #expect(unsafe symlink(kept.path, run + "/closed/folder") == 0)
            #expect(unsafe chmod(run + "/closed", 0) == 0)
        }
        #expect(isGone)
        #expect(kept.entries == ["file"])
    }

    @Test func whatIsNotThereCountsAsRemoved() throws {
        let folder = try #require(folder)
        let parent = try OwnedFileDescriptor.open(folder.path, O_RDONLY | O_DIRECTORY)
        let isNoneGone = FolderContents.removeFolder("none", in: parent)
        #expect(isNoneGone)
        try SmallFile.write(folder.path + "/file", [])
        let isFileGone = FolderContents.removeFolder("file", in: parent)
        #expect(isFileGone)
        #expect(folder.entries == [])
    }
}
