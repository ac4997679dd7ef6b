// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import Testing

@testable import SymVMM
@testable import VMMBase

@Suite struct VirtioStorageTests {
    /// The error of opening a disk; nil if it opens.
    private func failure(_ path: String, isReadOnly: Bool = false, sectorSize: Int? = nil) -> VMMError? {
        do throws(VMMError) {
            _ = try FileStorage(path: path, isReadOnly: isReadOnly, sectorSize: sectorSize)
            return nil
        } catch {
            return error
        }
    }

    @Test func whatIsNoDisk() throws {
        let folder = try VirtioTestFolder()
        #expect(failure(folder.path)?.errno == .isDirectory)
        #expect(failure("\(folder.path)/missing")?.errno == .noSuchFileOrDirectory)
        #expect(failure("/dev/null")?.advice == "neither a regular file nor a block device")
        let fifo = "\(folder.path)/fifo"
        #expect(unsafe mkfifo(fifo, 0o600) == 0)
        #expect(failure(fifo, isReadOnly: true)?.errno == .invalidArgument, "and it does not wait for a writer")
        #expect(failure(try folder.file("empty", byteCount: 0))?.advice.contains("empty") == true)
        #expect(failure(try folder.file("odd", byteCount: 1000))?.advice.contains("1000 bytes, is not a multiple of 512") == true)
        #expect(failure(try folder.file("odd4k", byteCount: 4096 + 512), sectorSize: 4096)?.errno == .invalidArgument)
        #expect(failure(try folder.file("good", byteCount: 8192), sectorSize: 513)?.errno == .invalidArgument)
        #expect(failure("\(folder.path)/good", sectorSize: 4096) == nil)
    }

    @Test func writersAloneReadersTogether() throws {
        let folder = try VirtioTestFolder()
        let path = try folder.file("disk", byteCount: 8192)
        do {
            let writer = try FileStorage(path: path, isReadOnly: false)
            #expect(failure(path)?.errno == .resourceBusy)
            #expect(failure(path)?.advice.contains("another process uses it") == true)
            #expect(failure(path, isReadOnly: true)?.advice.contains("another process writes to it") == true)
            withExtendedLifetime(writer) {}
        }
        let reader = try FileStorage(path: path, isReadOnly: true)
        #expect(failure(path, isReadOnly: true) == nil)
        #expect(failure(path)?.errno == .resourceBusy)
        withExtendedLifetime(reader) {}
    }

    /// Root ignores permissions, but not a read-only file system.
    @Test func aWritableDiskWithoutPermissionSaysReadonly() throws {
        let folder = try VirtioTestFolder()
        let isRoot = geteuid() == 0
        if isRoot { try #require(unsafe mount("tmpfs", folder.path, "tmpfs", 0, "size=1m") == 0, "mount: \(errno)") }
        defer { if isRoot { _ = unsafe umount2(folder.path, Int32(2)) } }
        let path = try folder.file("disk", byteCount: 8192)
        if isRoot {
            try #require(unsafe mount("tmpfs", folder.path, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), "size=1m") == 0)
        } else {
            #expect(unsafe chmod(path, 0o444) == 0)
        }
        #expect(failure(path)?.errno == (isRoot ? .readOnlyFileSystem : .permissionDenied))
        #expect(failure(path)?.advice.contains("add ',readonly' to the disk") == true)
        #expect(failure(path, isReadOnly: true) == nil)
    }
}
