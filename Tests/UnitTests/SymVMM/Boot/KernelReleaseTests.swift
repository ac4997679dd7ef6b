// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SymVMM

/// The release in a kernel's file. The file may contain anything.
@Suite struct KernelReleaseTests {
    private static let release = "6.1.0-57-cloud-amd64"

    /// A bzImage whose header points to the text at `offset`, in a file with `sectors` sectors of setup code behind the boot sector.
    private func bzImage(_ text: String, at offset: Int = 0x300, pointer: UInt16? = nil, sectors: UInt8 = 1) -> [UInt8] {
        var bytes = SyntheticKernel.bzImage()
        bytes.store(pointer ?? UInt16(offset - 0x200), at: 0x20E)
        bytes.store(sectors, at: 0x1F1)
        for (index, byte) in text.utf8.enumerated() where offset + index < bytes.count { bytes[offset + index] = byte }
        return bytes
    }

    private func read(_ bytes: [UInt8]) throws -> String? {
        let file = try TemporaryFile(bytes)
        return try KernelRelease.read(kernelPath: file.path)
    }

    @Test func aBzImageNamesIt() throws {
        let release = KernelReleaseTests.release
        #expect(try read(bzImage("\(release) (debian-kernel@lists.debian.org) #1 SMP\0")) == release)
        #expect(try read(bzImage("\(release)\0")) == release)
        // The last byte that it may have.
        #expect(try read(bzImage("6.12\0", at: 1024 - 5)) == "6.12")
    }

    @Test func aBzImageThatPointsElsewhereNamesNone() throws {
        #expect(try read(bzImage("6.1\0", pointer: 0)) == nil)
        // Behind the setup code: the kernel's own bytes.
        #expect(try read(bzImage("6.1\0", at: 1024)) == nil)
        #expect(try read(bzImage("6.1\0", at: 1024, pointer: .max)) == nil)
        // Without an end in the setup code, and without one at all.
        #expect(try read(bzImage("6.12", at: 1024 - 4)) == nil)
        #expect(try read(bzImage("6." + String(repeating: "1", count: 63) + "\0")) == nil)
        #expect(try read(bzImage("6." + String(repeating: "1", count: 62) + "\0")) == "6." + String(repeating: "1", count: 62))
        // A header that promises more sectors than the file has.
        var short = bzImage("6.1", at: 1024, sectors: 200)
        short.removeLast(short.count - 1026)
        #expect(try read(short) == nil)
    }

    @Test(arguments: ["", "..", ".6", "6", "a.b", "6.1/x", "6.1\u{1}", "6.1é", "../6.1", "-6.1", "6.1 x"])
    func otherNamesAreNoReleases(_ text: String) throws {
        #expect(!KernelRelease.isRelease(text))
        // The text before the space is one.
        #expect(try read(bzImage("\(text)\0")) == (text == "6.1 x" ? "6.1" : nil))
    }

    @Test func anELFFileHasItInTheBanner() throws {
        let format = Array("%s version %s (builder) Linux version %s (x) Linux version  (y) Linux versionx".utf8)
        let banner = Array("Linux version \(KernelReleaseTests.release) (debian-kernel@lists.debian.org) (gcc-12)".utf8)
        #expect(try read(SyntheticKernel.elf(segments: [.init(bytes: format + [0] + banner)])) == KernelReleaseTests.release)
        #expect(try read(SyntheticKernel.elf(segments: [.init(bytes: format)])) == nil)
        #expect(try read(SyntheticKernel.elf()) == nil)
    }

    /// The file is read in pieces: the banner is found wherever they meet.
    @Test func aBannerBetweenTwoPiecesIsFound() throws {
        let banner = Array("Linux version \(KernelReleaseTests.release) (x)".utf8)
        for offset in stride(from: KernelRelease.pieceByteCount - 130, through: KernelRelease.pieceByteCount + 10, by: 7) {
            var bytes = SyntheticKernel.elf()
            bytes += [UInt8](repeating: 0x4B, count: offset - bytes.count) + banner
            #expect(try read(bytes) == KernelReleaseTests.release, "\(offset)")
        }
    }

    @Test func damagedFilesNeverTrap() throws {
        let whole = bzImage("6.1.0 \0")
        let file = try TemporaryFile(whole)
        for count in stride(from: whole.count, to: 0, by: -1) {
            try file.truncate(count)
            let release = try KernelRelease.read(kernelPath: file.path)
            #expect(release == nil || release == "6.1.0")
        }
        #expect(throws: VMMError.self) { try KernelRelease.read(kernelPath: "/nowhere/vmlinuz") }
        #expect(throws: VMMError.self) { try KernelRelease.read(kernelPath: "/dev/null") }
        #expect(try read(Array("a text\n".utf8)) == nil)
    }
}
