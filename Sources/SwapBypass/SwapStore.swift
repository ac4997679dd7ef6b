// SPDX-License-Identifier: Apache-2.0

internal import Glibc
public import SymVMM

/// Where swapped pages are: anonymous memory of the host with a descriptor, already formatted as Linux swap. Page s of the store is page s of
/// the disk and of the window.
///
/// The disk reads and writes through the descriptor, so that a host without memory gives an error and not a signal; the guest reaches the same
/// pages through the mapping. Any thread.
public final class SwapStore: Sendable {
    /// Size in bytes, whole pages.
    public let byteCount: UInt64
    let descriptor: FileDescriptor
    /// For the window only: nothing in this process reads or writes through it.
    let mapping: MemoryMapping

    /// Makes a store of `byteCount` bytes, a multiple of 4096, at least 10 pages.
    public init(byteCount: UInt64) throws(KVMError) {
        guard byteCount % GuestMemory.pageSize == 0, byteCount >= 10 * GuestMemory.pageSize, byteCount <= 1 << 40 else {
            throw KVMError(call: "swap store", errno: EINVAL, advice: "\(byteCount) bytes: give whole pages, 1M to 1T")
        }
        self.byteCount = byteCount
        descriptor = try FileDescriptor.memory(name: "symvmm-swap", byteCount: byteCount)
        mapping = try MemoryMapping(shared: descriptor, byteCount: Int(byteCount))
        try write(SwapHeader.bytes(pageCount: byteCount / GuestMemory.pageSize))
    }

    /// Bytes of host memory that the store holds now.
    public var residentByteCount: UInt64 {
        var status = stat()
        // SAFETY: the structure outlives the call, which fills it.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { return 0 }
        return UInt64(max(0, status.st_blocks)) &* 512
    }

    private func write(_ page: [UInt8]) throws(KVMError) {
        // SAFETY: the array lives for the call, which reads as many bytes as it has.
        let written = unsafe page.withUnsafeBytes { unsafe pwrite(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
        guard written == page.count else { throw KVMError(call: "pwrite swap header", errno: written < 0 ? errno : EIO) }
    }
}

/// The first page of a swap area (Linux, include/linux/swap.h, union swap_header).
enum SwapHeader {
    private static let label = "symvmm-swap"

    static func bytes(pageCount: UInt64) -> [UInt8] {
        var page = [UInt8](repeating: 0, count: Int(GuestMemory.pageSize))
        func put(_ value: UInt32, _ offset: Int) {
            for index in 0..<4 { page[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index)) }
        }
        put(1, 1024)  // version
        put(UInt32(clamping: pageCount &- 1), 1028)  // last_page
        put(0, 1032)  // nr_badpages
        for index in 0..<16 { page[1036 + index] = UInt8.random(in: 0...255) }
        // A random UUID (RFC 9562, version 4).
        page[1036 + 6] = page[1036 + 6] & 0x0f | 0x40
        page[1036 + 8] = page[1036 + 8] & 0x3f | 0x80
        for (index, byte) in label.utf8.prefix(15).enumerated() { page[1052 + index] = byte }
        for (index, byte) in "SWAPSPACE2".utf8.enumerated() { page[page.count - 10 + index] = byte }
        return page
    }
}
