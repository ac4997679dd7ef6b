// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import Testing

@testable import VMMBase

@Suite struct VMMErrorTests {
    @Test func anErrorIsOneLine() {
        #expect(VMMError(call: "open /a", errno: ENOENT, advice: "make it").description == "open /a: No such file or directory: make it")
        #expect(
            VMMError(call: "open /a", errno: .noSuchFileOrDirectory).of("drive 'a'", .user).description
                == "drive 'a': open /a: No such file or directory")
        #expect(VMMError.user("no kernel").description == "no kernel")
        #expect(VMMError.user("no kernel").errno == nil)
        #expect(VMMError(call: "x", errno: 99_999).description == "x: Unknown error 99999")
    }

    @Test func shimsAnswersBecomeValuesOrErrors() throws {
        #expect(try VMMError.check(7, "call") == 7)
        let error = #expect(throws: VMMError.self) { try VMMError.check(-EBUSY, "call", advice: "wait") }
        #expect(error?.errno == .resourceBusy && error?.kind == .host)
    }

    @Test(arguments: [
        ("a.json", ".", "a.json"), ("/a.json", "/", "a.json"), ("x/a", "x", "a"), ("./a", ".", "a"), ("/x/y/a,b", "/x/y", "a,b"),
        ("../a", "..", "a"), ("/x//a", "/x", "a"), ("/", "/", ""), ("", ".", ""), ("x/", ".", ""), ("x/..", "x", ""), (".", ".", ""),
    ])
    func pathsHaveAFolderAndAName(path: String, folder: String, name: String) {
        #expect(path.folderPath == folder)
        #expect(path.fileName == name)
    }
}
