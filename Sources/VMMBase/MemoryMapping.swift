// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Owns a mapping made by mmap(2) and unmaps it.
@safe public struct MemoryMapping: ~Copyable, @unchecked Sendable {
    /// Host virtual address of the mapping. Valid while the owner lives.
    public let baseAddress: UnsafeMutableRawPointer
    /// Length in bytes.
    public let byteCount: Int

    /// Maps private anonymous memory: zero-filled, allocated on first touch.
    ///
    /// - Parameter byteCount: length in bytes, a multiple of the page size.
    public init(anonymous byteCount: Int) throws(VMMError) {
        try self.init(byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, "mmap \(byteCount) bytes")
    }

    /// The same, aligned to `alignment` bytes, as huge pages need.
    ///
    /// - Parameters:
    ///   - byteCount: length in bytes, a multiple of the page size.
    ///   - alignment: a power of two, at least the page size.
    public init(anonymous byteCount: Int, alignment: Int) throws(VMMError) {
        let (whole, overflow) = byteCount.addingReportingOverflow(alignment)
        guard !overflow else { throw VMMError(call: "mmap \(byteCount) bytes", errno: ENOMEM) }
        let start = try unsafe MemoryMapping.map(
            whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, "mmap \(byteCount) bytes")
        let misplaced = UInt(bitPattern: start) & (UInt(alignment) &- 1)
        let before = misplaced == 0 ? 0 : alignment - Int(misplaced)
        // SAFETY: both parts lie in the new mapping, outside the part that is kept, and nobody uses them yet.
        if before > 0 { _ = unsafe munmap(start, before) }
        if whole - before > byteCount { _ = unsafe munmap(start + before + byteCount, whole - before - byteCount) }
        unsafe baseAddress = start + before
        self.byteCount = byteCount
    }

    /// Maps private anonymous memory in the host's reserved pages of 2 MiB (hugetlbfs): fails if there are too few.
    ///
    /// - Parameter byteCount: length in bytes, a multiple of 2 MiB.
    public init(hugePages byteCount: Int) throws(VMMError) {
        // MAP_HUGETLB with the page size's logarithm, 21, in its field, from bit 26 (mmap(2)).
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << 26
        let call = "mmap \(byteCount) bytes in huge pages of 2 MiB"
        do throws(VMMError) {
            unsafe baseAddress = try MemoryMapping.map(byteCount, PROT_READ | PROT_WRITE, flags, -1, 0, call)
        } catch {
            let pages = byteCount >> 21
            throw VMMError(
                call: call, errno: error.errno,
                advice: "the host has fewer than \(pages) free huge pages: reserve them with 'sysctl vm.nr_hugepages=\(pages)' or more")
        }
        self.byteCount = byteCount
    }

    /// Maps part of a file, shared.
    public init(shared descriptor: borrowing OwnedFileDescriptor, offset: Int = 0, byteCount: Int) throws(VMMError) {
        try self.init(byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.rawValue, offset, "mmap a shared file")
    }

    private init(_ byteCount: Int, _ protection: Int32, _ flags: Int32, _ number: Int32, _ offset: Int, _ call: String) throws(VMMError) {
        unsafe baseAddress = try MemoryMapping.map(byteCount, protection, flags, number, offset, call)
        self.byteCount = byteCount
    }

    private static func map(_ byteCount: Int, _ protection: Int32, _ flags: Int32, _ number: Int32, _ offset: Int, _ call: String)
        throws(VMMError) -> UnsafeMutableRawPointer
    {
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let address = unsafe mmap(nil, byteCount, protection, flags, number, offset)
        guard let address = unsafe address, unsafe address != MAP_FAILED else {
            throw VMMError.last(call, advice: "the host has too little address space or memory for it")
        }
        return unsafe address
    }

    /// Unmaps the end of the mapping.
    ///
    /// - Parameter byteCount: the length of the part that stays, a multiple of the page size, not 0 and at most the mapping's length.
    package consuming func shortened(to byteCount: Int) -> MemoryMapping {
        let (start, whole) = unsafe (baseAddress, self.byteCount)
        guard byteCount > 0, byteCount < whole else { return self }
        discard self
        // SAFETY: the end of this mapping, which nobody owns any more.
        _ = unsafe munmap(start + byteCount, whole - byteCount)
        return unsafe MemoryMapping(adopting: start, byteCount)
    }

    private init(adopting start: UnsafeMutableRawPointer, _ byteCount: Int) {
        unsafe baseAddress = start
        self.byteCount = byteCount
    }

    deinit {
        // SAFETY: only the owner unmaps, and its users borrow it.
        _ = unsafe munmap(baseAddress, byteCount)
    }
}
