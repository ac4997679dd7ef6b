// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM
@testable import VMMBase
@testable import VMMSymMod

@Suite struct ModuleFileTests {
    @Test func aModuleNamesItselfAndItsKernel() throws {
        let file = try ModuleFile(SymModFiles.module(), path: "m.ko")
        #expect((file.name, file.release) == ("symbiotic", SymModFiles.release))
    }

    @Test func filesThatAreNoModulesAreRefused() {
        for bytes in [[], Array("text".utf8), SyntheticKernel.elf(), [UInt8](repeating: 0, count: 4096)] {
            #expect(throws: VMMError.self) { try ModuleFile(bytes, path: "m.ko") }
        }
        for release in ["", "..", "6.1/../../x", "x"] {
            #expect(throws: VMMError.self) { try ModuleFile(SymModFiles.module(release: release), path: "m.ko") }
        }
    }

    @Test func damagedFilesNeverTrap() {
        let whole = SymModFiles.module()
        for count in 0..<whole.count {
            #expect(throws: VMMError.self, "\(count) bytes") { try ModuleFile(Array(whole.prefix(count)), path: "m.ko") }
        }
        // Every byte of the headers with the values that overflow or lead out of the file.
        for offset in Array(0..<64) + Array((whole.count - 192)..<whole.count) {
            for value in [0, 1, 0x7F, 0x80, 0xFF] as [UInt8] {
                var bytes = whole
                bytes[offset] = value
                _ = try? ModuleFile(bytes, path: "m.ko")
            }
        }
    }
}
