// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The one owner of a mapping made by mmap(2): unmapped when it goes out of scope.
@safe public struct MemoryMapping: ~Copyable, @unchecked Sendable {
    /// Start of the mapping in this process (HVA). Valid while the owner lives.
    public let baseAddress: UnsafeMutableRawPointer
    /// Length in bytes.
    public let byteCount: Int

    /// Maps private anonymous memory, zero-filled and backed only where it is touched.
    ///
    /// - Parameter byteCount: length in bytes, a multiple of the page size.
    public init(anonymous byteCount: Int) throws(KVMError) {
        try self.init(byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, "mmap \(byteCount) bytes")
    }

    /// The same, beginning at a multiple of `alignment` bytes: what huge pages need.
    ///
    /// - Parameters:
    ///   - byteCount: length in bytes, a multiple of the page size.
    ///   - alignment: a power of two, at least the page size.
    public init(anonymous byteCount: Int, alignment: Int) throws(KVMError) {
        let (whole, overflow) = byteCount.addingReportingOverflow(alignment)
        guard !overflow else { throw KVMError(call: "mmap \(byteCount) bytes", errno: ENOMEM) }
        let start = try unsafe MemoryMapping.map(
            whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, "mmap \(byteCount) bytes")
        let misplaced = UInt(bitPattern: start) & (UInt(alignment) &- 1)
        let before = misplaced == 0 ? 0 : alignment - Int(misplaced)
        // SAFETY: both lie in what was just mapped, before and behind the part that is kept, and nobody has them yet.
        if before > 0 { _ = unsafe munmap(start, before) }
        if whole - before > byteCount { _ = unsafe munmap(start + before + byteCount, whole - before - byteCount) }
        unsafe baseAddress = start + before
        self.byteCount = byteCount
    }

    /// Maps part of a file so that all its users share it.
    public init(shared descriptor: borrowing FileDescriptor, offset: Int = 0, byteCount: Int) throws(KVMError) {
        try self.init(byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.rawValue, offset, "mmap a shared file")
    }

    private init(_ byteCount: Int, _ protection: Int32, _ flags: Int32, _ number: Int32, _ offset: Int, _ call: String) throws(KVMError) {
        unsafe baseAddress = try MemoryMapping.map(byteCount, protection, flags, number, offset, call)
        self.byteCount = byteCount
    }

    private static func map(_ byteCount: Int, _ protection: Int32, _ flags: Int32, _ number: Int32, _ offset: Int, _ call: String)
        throws(KVMError) -> UnsafeMutableRawPointer
    {
        // SAFETY: the kernel chooses the place, so nothing that exists is replaced.
        let address = unsafe mmap(nil, byteCount, protection, flags, number, offset)
        guard let address = unsafe address, unsafe address != MAP_FAILED else {
            throw KVMError.last(call, advice: "the host has too little address space or memory for it")
        }
        return unsafe address
    }

    deinit {
        // SAFETY: the owner is the only one who unmaps, and users borrow it.
        _ = unsafe munmap(baseAddress, byteCount)
    }
}
