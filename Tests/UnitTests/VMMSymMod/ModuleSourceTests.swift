// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import VMMBase
@testable import VMMSymMod

@Suite struct ModuleSourceTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        for name in ["symbiotic", "include", "headers", "headers/include", "headers/include/generated"] {
            #expect(unsafe mkdir("\(folder.path)/\(name)", 0o755) == 0)
        }
        try SmallFile.write("\(folder.path)/symbiotic/Kbuild", Array("obj-m := symbiotic.o\n".utf8))
        try SmallFile.write("\(folder.path)/symbiotic/main.c", Array("int x;\n".utf8))
        try SmallFile.write("\(folder.path)/include/abi.h", Array("#define A\n".utf8))
    }

    private func version() throws -> String {
        try ModuleSource(path: folder.path).version
    }

    @Test func theVersionChangesWithEverySourceFileAndNothingElse() throws {
        let first = try version()
        for name in ["symbiotic/main.o", "symbiotic/symbiotic.mod.c", "symbiotic/.main.o.cmd", "symbiotic/README"] {
            try SmallFile.write("\(folder.path)/\(name)", [1])
            #expect(try version() == first, "\(name)")
        }
        var versions = [first]
        for (name, text) in [
            ("symbiotic/main.c", "int y;\n"), ("include/abi.h", "#define B\n"), ("symbiotic/Kbuild", "x"), ("symbiotic/a.S", ""),
        ] {
            try SmallFile.write("\(folder.path)/\(name)", Array(text.utf8))
            versions.append(try version())
        }
        #expect(Set(versions).count == versions.count)
        #expect(throws: VMMError.self) { try ModuleSource(path: "\(folder.path)/nowhere") }
    }

    private func headers(_ text: String) throws(VMMError) -> KernelHeaders {
        try SmallFile.write("\(folder.path)/headers/include/generated/utsrelease.h", Array(text.utf8))
        return try KernelHeaders(path: "\(folder.path)/headers")
    }

    @Test func headersNameTheirRelease() throws {
        #expect(try headers("#define UTS_RELEASE \"6.1.0-57-cloud-amd64\"\n").release == "6.1.0-57-cloud-amd64")
        #expect(
            try headers("#define UTS_VERSION \"#1\"\n#define UTS_RELEASE \"6.12.1\"\n#define UTS_UBUNTU_RELEASE_ABI 8\n").release
                == "6.12.1")
        for text in [
            "", "#define UTS_RELEASE", "#define UTS_RELEASE \"\"", "#define UTS_RELEASE \"../x\"", "x #define UTS_RELEASE \"6.1\"",
        ] {
            #expect(throws: VMMError.self, "\(text)") { try headers(text) }
        }
        #expect(throws: VMMError.self) { try KernelHeaders(path: folder.path) }
        #expect(throws: VMMError.self) { try KernelHeaders(named: "0.0.0-none") }
    }
}
