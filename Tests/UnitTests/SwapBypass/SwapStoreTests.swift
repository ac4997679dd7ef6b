// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import SwapBypass
@testable import SymVMM
@testable import VMMBase

@Suite struct SwapStoreTests {
    /// Writes pages that each contain their own number, in two vectors of different lengths.
    private func write(_ store: SwapStore, _ value: UInt8, at offset: UInt64, byteCount: Int) throws(StorageError) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
        defer { unsafe memory.deallocate() }
        unsafe memory.initializeMemory(as: UInt8.self, repeating: value)
        try unsafe withVectors(memory) { vectors throws(StorageError) in try store.write(from: &vectors, at: offset) }
    }

    private func read(_ store: SwapStore, at offset: UInt64, byteCount: Int) throws(StorageError) -> [UInt8] {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
        defer { unsafe memory.deallocate() }
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0xee)
        try unsafe withVectors(memory) { vectors throws(StorageError) in try store.read(into: &vectors, at: offset) }
        return unsafe [UInt8](memory)
    }

    private func withVectors(
        _ memory: UnsafeMutableRawBufferPointer, _ body: (inout GuestVectors) throws(StorageError) -> Void
    ) throws(StorageError) {
        let ranges = UnsafeMutablePointer<iovec>.allocate(capacity: 2)
        defer { unsafe ranges.deallocate() }
        unsafe ranges[0] = iovec(iov_base: memory.baseAddress, iov_len: 1000)
        unsafe ranges[1] = iovec(iov_base: memory.baseAddress.map { unsafe $0 + 1000 }, iov_len: memory.count - 1000)
        var vectors = unsafe GuestVectors(base: ranges, count: 2, byteCount: memory.count)
        try body(&vectors)
    }

    /// Checks the behaviour that all stores have in common.
    private func checkStore(_ store: SwapStore) throws {
        #expect(store.sectorSize == 4096 && !store.isReadOnly)
        #expect(SwapHeader.isOurs(try read(store, at: 0, byteCount: 4096)))
        try write(store, 7, at: 3 * 4096, byteCount: 5 * 4096)
        #expect(try read(store, at: 2 * 4096, byteCount: 4096).allSatisfy { $0 == 0 })
        #expect(try read(store, at: 3 * 4096, byteCount: 5 * 4096).allSatisfy { $0 == 7 })
        #expect(try read(store, at: 8 * 4096, byteCount: 4096).allSatisfy { $0 == 0 })
        // The window has the same contents.
        #expect(unsafe store.mapping.baseAddress.load(fromByteOffset: 3 * 4096, as: UInt8.self) == 7)
        unsafe store.mapping.baseAddress.storeBytes(of: 9, toByteOffset: 4 * 4096, as: UInt8.self)
        #expect(try read(store, at: 4 * 4096, byteCount: 4096).first == 9)
        try store.discard(at: 3 * 4096, byteCount: 4096)
        try store.writeZeroes(at: 4 * 4096, byteCount: 4096, mayUnmap: true)
        #expect(try read(store, at: 3 * 4096, byteCount: 2 * 4096).allSatisfy { $0 == 0 })
        #expect(try read(store, at: 5 * 4096, byteCount: 4096).allSatisfy { $0 == 7 })
        try store.flush()
    }

    @Test func aStoreInMemoryGivesMemoryBack() throws {
        let store = try SwapStore.make(SwapConfiguration(byteCount: 16 << 20))
        // The mapping is aligned to the guest's huge pages.
        let place = unsafe UInt(bitPattern: store.mapping.baseAddress)
        #expect(place % (2 << 20) == 0)
        try checkStore(store)
        let before = store.residentByteCount
        #expect(before > 0 && before <= 2 << 20)
        try write(store, 1, at: 4 << 20, byteCount: 8 << 20)
        #expect(store.residentByteCount >= before + (8 << 20))
        try store.discard(at: 4 << 20, byteCount: 8 << 20)
        #expect(store.residentByteCount == before)
        try store.discard(at: 0, byteCount: 16 << 20)
        #expect(store.residentByteCount == 0)
        #expect(throws: StorageError.self) { try write(store, 1, at: (16 << 20) - 4096, byteCount: 8192) }
        #expect(throws: StorageError.self) { try store.discard(at: 16 << 20, byteCount: 4096) }
        #expect(throws: VMMError.self) { try SwapStore.make(SwapConfiguration(byteCount: (1 << 20) + 1)) }
    }

    @Test func aStoreInAFile() throws {
        let folder = try VirtioTestFolder()
        let path = "\(folder.path)/swap"
        do {
            let store = try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: path))
            try checkStore(store)
            #expect(throws: VMMError.self, "it is in use") { try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: path)) }
        }
        // The file of a VM that was killed: the store reuses it, and it is empty.
        let left = try folder.file("swap", byteCount: 1 << 20)
        try fill(left, SwapHeader.bytes(pageCount: 256) + [UInt8](repeating: 7, count: 16384))
        let again = try SwapStore.make(SwapConfiguration(byteCount: 2 << 20, path: path))
        #expect(again.byteCount == 2 << 20 && again.residentByteCount <= 8192)
        #expect(try read(again, at: 2 * 4096, byteCount: 4096).allSatisfy { $0 == 0 })
        let other = try folder.file("other", byteCount: 8192)
        #expect(throws: VMMError.self) { try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: other)) }
        #expect(throws: VMMError.self) { try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: folder.path)) }
        #expect(throws: VMMError.self) { try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: "/dev/null")) }
    }

    private func fill(_ path: String, _ bytes: [UInt8]) throws {
        let file = try OwnedFileDescriptor.open(path, O_WRONLY)
        try #require(unsafe pwrite(file.rawValue, bytes, bytes.count, 0) == bytes.count)
    }

    private func status(_ path: String) -> stat? {
        var status = stat()
        return unsafe lstat(path, &status) == 0 ? status : nil
    }

    /// The error of making a store in a file. Expects the file unchanged.
    private func refusal(_ path: String) throws -> String {
        let before = status(path)
        let error = #expect(throws: VMMError.self) { try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: path)) }
        let words = try #require(error).description
        #expect(!words.contains("\n") && words.hasPrefix("swap file \(path): "))
        let after = status(path)
        #expect(before?.st_ino == after?.st_ino && before?.st_size == after?.st_size && before?.st_mode == after?.st_mode)
        return words
    }

    @Test(arguments: [nil, 1 << 20] as [UInt64?]) func theFileIsForItsOwnerOnlyAndLeftEmpty(budget: UInt64?) throws {
        let folder = try VirtioTestFolder()
        let path = "\(folder.path)/swap"
        let mask = umask(0)
        defer { umask(mask) }
        do {
            let store = try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: path, budget: budget))
            let made = try #require(status(path))
            #expect(made.st_mode & 0o7777 == 0o600 && made.st_size == 1 << 20)
            try write(store, 7, at: 8192, byteCount: 4096)
            store.close()
            #expect(status(path) == nil, "removed when it was made here")
        }
        // The store did not create this file: it stays, empty.
        let mine = try folder.file("mine", byteCount: 0)
        do {
            let store = try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: mine, budget: budget))
            try write(store, 7, at: 8192, byteCount: 4096)
            #expect(status(mine)?.st_size == 1 << 20)
        }
        #expect(status(mine)?.st_size == 0)
    }

    @Test func aFileOfAnotherOrOpenToOthersIsRefused() throws {
        let folder = try VirtioTestFolder()
        let path = try folder.file("swap", byteCount: 0)
        for mode in [0o644, 0o640, 0o606, 0o622] as [mode_t] {
            #expect(unsafe chmod(path, mode) == 0)
            #expect(try refusal(path).contains("other users can open it"))
        }
        #expect(unsafe chmod(path, 0o600) == 0)
        let link = "\(folder.path)/link"
        #expect(unsafe symlink(path, link) == 0)
        #expect(try refusal(link).contains("symbolic links are not followed"))
        let nowhere = "\(folder.path)/nowhere"
        #expect(unsafe symlink("\(folder.path)/missing", nowhere) == 0)
        #expect(try refusal(nowhere).contains("symbolic links are not followed"))
        #expect(status("\(folder.path)/missing") == nil)
        #expect(try refusal("\(folder.path)/no/such").contains("No such file"))
        if geteuid() == 0 {
            #expect(unsafe chown(path, 65534, 65534) == 0)
            #expect(try refusal(path).contains("belongs to user 65534"))
        }
    }

    /// At the end, another file may have the name.
    @Test func onlyTheFileThatWasMadeIsRemoved() throws {
        let folder = try VirtioTestFolder()
        let path = "\(folder.path)/swap"
        let store = try SwapStore.make(SwapConfiguration(byteCount: 1 << 20, path: path))
        try write(store, 7, at: 8192, byteCount: 4096)
        #expect(unsafe rename(path, path + ".old") == 0)
        _ = try folder.file("swap", byteCount: 5)
        store.close()
        #expect(status(path)?.st_size == 5)
        #expect(status(path + ".old")?.st_size == 0)
    }

    /// Lock and data use the same open file description: a second descriptor, opened by name, would have a lock of its own.
    @Test func theLockIsTheOpenFiles() throws {
        let folder = try VirtioTestFolder()
        let path = try folder.file("swap", byteCount: 0)
        let file = try SwapFile(path: path, byteCount: 1 << 20)
        var marks: [off_t] = []
        for number in 0..<1024 {
            var name = [CChar](repeating: 0, count: 4096)
            // SAFETY: the buffer has `name.count` bytes.
            let count = unsafe readlink("/proc/self/fd/\(number)", &name, name.count)
            guard count > 0, String(decoding: name.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) == path else { continue }
            // All descriptors of an open file description share its offset.
            if marks.isEmpty { _ = lseek(Int32(number), 4242, SEEK_SET) }
            marks.append(lseek(Int32(number), 0, SEEK_CUR))
        }
        #expect(marks == [4242, 4242])
        #expect(file.allocatedByteCount <= 8192)
        let other = try OwnedFileDescriptor.open(path, O_RDWR)
        #expect(throws: VMMError.self) { try FileStorage.lockAlone(other, "test") }
    }

    @Test func aBudgetIsKept() throws {
        let folder = try VirtioTestFolder()
        let store = try SwapStore.make(SwapConfiguration(byteCount: 16 << 20, path: "\(folder.path)/swap", budget: 4 << 20))
        let held = try #require(store.residentSlots)
        #expect(store.residentByteCount == 0 && !held.contains(0))
        #expect(SwapHeader.isOurs(try read(store, at: 0, byteCount: 4096)))
        // Two chunks fit into memory; the third goes to the file. One request covers both the second and the third.
        try write(store, 1, at: 2 << 20, byteCount: 2 << 20)
        try write(store, 2, at: 6 << 20, byteCount: 4 << 20)
        #expect(store.residentByteCount == 4 << 20)
        #expect(held.contains(512) && held.contains(1023) && held.contains(2047) && !held.contains(2048) && !held.contains(511))
        #expect(!held.contains(4096) && !held.contains(.max))
        #expect(unsafe store.mapping.baseAddress.load(fromByteOffset: 6 << 20, as: UInt8.self) == 2)
        #expect(try read(store, at: 6 << 20, byteCount: 4 << 20).allSatisfy { $0 == 2 })
        #expect(try read(store, at: 10 << 20, byteCount: 4096).allSatisfy { $0 == 0 })
        // Discarding a chunk's last slot frees the chunk, so there is room for another one. Slots in the file stay there until the guest writes
        // them again.
        try store.discard(at: 2 << 20, byteCount: (2 << 20) - 4096)
        #expect(store.residentByteCount == 4 << 20)
        try store.discard(at: (4 << 20) - 4096, byteCount: 4096)
        #expect(store.residentByteCount == 2 << 20)
        #expect(try read(store, at: 2 << 20, byteCount: 2 << 20).allSatisfy { $0 == 0 })
        try write(store, 5, at: 9 << 20, byteCount: 4096)
        #expect(held.contains(2304) && !held.contains(2305))
        #expect(try read(store, at: 9 << 20, byteCount: 4096).allSatisfy { $0 == 5 })
        #expect(try read(store, at: (9 << 20) + 4096, byteCount: 4096).allSatisfy { $0 == 2 })
        #expect(store.setBudget(0) && store.budget == 0)
        try write(store, 6, at: 12 << 20, byteCount: 8192)
        #expect(store.residentByteCount == 4 << 20 && !held.contains(3072))
        try store.writeZeroes(at: 0, byteCount: 16 << 20, mayUnmap: true)
        #expect(store.residentByteCount == 0)
        #expect(try read(store, at: 6 << 20, byteCount: 8 << 20).allSatisfy { $0 == 0 })
    }

    /// Bytes of host memory behind part of the window, as mincore(2) reports them.
    private func residentBytes(_ store: SwapStore, at offset: UInt64 = 0, byteCount: UInt64? = nil) throws -> Int {
        let bytes = Int(byteCount ?? store.byteCount)
        var states = [UInt8](repeating: 0, count: bytes / 4096)
        try #require(unsafe mincore(store.mapping.baseAddress + Int(offset), bytes, &states) == 0)
        return states.reduce(0) { $0 + Int($1 & 1) } * 4096
    }

    /// Writes to a chunk on another thread, as a guest does. The kernel makes the writes, as KVM does, so a write to an unmapped chunk is an error
    /// and not a signal.
    private final class Writer: Sendable {
        let written = Atomic<Int>(0)
        let refused = Atomic<Int>(0)
        /// Offset of the chunk; 0 ends the thread.
        let chunk = Atomic<Int>(2 << 20)

        func run(_ store: SwapStore) throws -> Thread {
            let zeroes = try OwnedFileDescriptor.open("/dev/zero", O_RDONLY)
            return try Thread(.command, "writer") { [self] in
                var page = 0
                while true {
                    page = (page + 7) % 512
                    let offset = chunk.load(ordering: .relaxed)
                    guard offset > 0 else { return }
                    let count = unsafe Glibc.read(zeroes.rawValue, store.mapping.baseAddress + offset + page * 4096, 8)
                    if count == 8 { written.add(1, ordering: .relaxed) } else { refused.add(1, ordering: .relaxed) }
                }
            }
        }
    }

    @Test(.timeLimit(.minutes(2))) func aRacingWriterGetsNoMemoryThatNobodyCounts() throws {
        let folder = try VirtioTestFolder()
        let store = try SwapStore.make(SwapConfiguration(byteCount: 16 << 20, path: "\(folder.path)/swap", budget: 2 << 20))
        let writer = Writer()
        let thread = try writer.run(store)
        var uncounted = 0
        for turn in 0..<5000 {
            let chunk = UInt64(turn % 7 + 1) << 21
            writer.chunk.store(Int(chunk), ordering: .relaxed)
            try write(store, 1, at: chunk, byteCount: 4096)
            try store.discard(at: chunk, byteCount: 4096)
            if try residentBytes(store, at: chunk, byteCount: 2 << 20) > 0 { uncounted += 1 }
        }
        writer.chunk.store(0, ordering: .relaxed)
        thread.join()
        #expect(writer.written.load(ordering: .relaxed) > 100 && writer.refused.load(ordering: .relaxed) > 100)
        #expect(uncounted == 0, "of 5,000 times")
        #expect(try residentBytes(store) == 0 && store.residentByteCount == 0)
    }

    @Test func memoryThatTheHostDoesNotTakeBackStaysCounted() throws {
        let folder = try VirtioTestFolder()
        let store = try SwapStore.make(SwapConfiguration(byteCount: 8 << 20, path: "\(folder.path)/swap", budget: 2 << 20))
        try write(store, 1, at: 2 << 20, byteCount: 8192)
        // MADV_DONTNEED fails for locked pages.
        try #require(unsafe mlock(store.mapping.baseAddress + (2 << 20), 4096) == 0)
        try store.discard(at: 2 << 20, byteCount: 8192)
        #expect(store.residentSlots?.contains(512) == false)
        #expect(store.residentByteCount == 2 << 20)
        #expect(try residentBytes(store) <= 2 << 20)
        // The budget is used up. The store can use the chunk again, and does not count it twice.
        try write(store, 2, at: 4 << 20, byteCount: 4096)
        #expect(store.residentSlots?.contains(1024) == false)
        try write(store, 3, at: (2 << 20) + 4096, byteCount: 4096)
        #expect(store.residentSlots?.contains(513) == true && store.residentByteCount == 2 << 20)
        #expect(try read(store, at: (2 << 20) + 4096, byteCount: 4096).allSatisfy { $0 == 3 })
        try store.discard(at: (2 << 20) + 4096, byteCount: 4096)
        #expect(store.residentByteCount == 2 << 20)
        // After munlock(2) the store frees the chunk.
        _ = unsafe munlock(store.mapping.baseAddress + (2 << 20), 4096)
        try store.discard(at: 2 << 20, byteCount: 4096)
        #expect(store.residentByteCount == 0)
        #expect(try residentBytes(store) == 0)
    }

    /// A write to a full file system fails; the other contents stay. Only root can mount.
    @Test(.enabled(if: geteuid() == 0)) func aFullFileSystemIsAnErrorOfTheWrite() throws {
        let folder = try VirtioTestFolder()
        try #require(unsafe mount("tmpfs", folder.path, "tmpfs", 0, "size=1m") == 0, "mount: \(errno)")
        defer { _ = unsafe umount2(folder.path, Int32(2)) }
        let store = try SwapStore.make(SwapConfiguration(byteCount: 4 << 20, path: "\(folder.path)/swap"))
        try write(store, 3, at: 4096, byteCount: 512 << 10)
        var failure: StorageError?
        do throws(StorageError) { try write(store, 4, at: 1 << 20, byteCount: 2 << 20) } catch { failure = error }
        #expect(failure == .failed(errno: ENOSPC))
        #expect(try read(store, at: 4096, byteCount: 512 << 10).allSatisfy { $0 == 3 })
        // Without room for the header, making the store fails and leaves no file.
        let other = "\(folder.path)/other"
        #expect(throws: VMMError.self) { try SwapStore.make(SwapConfiguration(byteCount: 4 << 20, path: other)) }
        #expect(status(other) == nil)
    }
}
