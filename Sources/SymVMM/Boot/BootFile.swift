// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage
internal import VMMBase

/// A kernel or initial RAM disk, open for reading. Its contents are untrusted, and the file may shrink while it is open.
struct BootFile: ~Copyable {
    enum Role: Sendable {
        case kernel
        case initrd
    }

    let path: String
    /// Length in bytes when it was opened.
    let byteCount: UInt64
    private let role: Role
    private let descriptor: OwnedFileDescriptor

    /// Opens a regular file that has at least one byte.
    init(path: String, role: Role) throws(VMMError) {
        let opened: OwnedFileDescriptor
        do throws(VMMError) {
            // O_NONBLOCK: opening a FIFO must not wait for a writer.
            opened = try OwnedFileDescriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
        } catch {
            throw BootFile.unreadable(path, role, error.errno)
        }
        var status = stat()
        // SAFETY: the call fills only the variable.
        guard unsafe fstat(opened.rawValue, &status) == 0 else { throw BootFile.unreadable(path, role, Errno(rawValue: errno)) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw VMMError.notARegularFile(path: path) }
        guard status.st_size > 0 else { throw VMMError.emptyFile(path: path) }
        self.path = path
        self.role = role
        byteCount = UInt64(status.st_size)
        descriptor = opened
    }

    /// Reads `count` bytes from `offset`, or fewer at the end of the file. For headers: `count` must be small.
    func read(offset: UInt64, atMost count: Int) throws(VMMError) -> [UInt8] {
        guard offset < byteCount, count > 0 else { return [] }
        let available = Int(min(UInt64(count), byteCount &- offset))
        var bytes = [UInt8](repeating: 0, count: available)
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Result<Int, VMMError> in
            guard let base = buffer.baseAddress else { return .success(0) }
            // SAFETY: the buffer has `available` bytes.
            return unsafe fill(base, count: available, from: offset, limit: nil)
        }
        let done = try result.get()
        return done == available ? bytes : Array(bytes.prefix(done))
    }

    /// Reads bytes of the file into guest memory. Throws `truncatedKernel` or EIO when the file has shrunk.
    func read(offset: UInt64, count: UInt64, into memory: GuestMemory, at address: UInt64, limit: LoadingLimit) throws(VMMError) {
        guard count > 0 else { return }
        let (end, overflow) = offset.addingReportingOverflow(count)
        guard !overflow, end <= byteCount else { throw truncated(needed: overflow ? .max : end) }
        guard let length = Int(exactly: count) else { throw outsideMemory(address, count, memory) }
        let destination: UnsafeMutableRawPointer
        do throws(GuestAddressError) {
            // SAFETY: only pread(2) uses the pointer, and it writes at most `length` bytes.
            unsafe destination = try memory.pointer(address, byteCount: length)
        } catch {
            throw outsideMemory(address, count, memory)
        }
        // SAFETY: pointer(_:byteCount:) has checked that all `length` bytes lie in guest memory, which lives for the call.
        let read = try unsafe fill(destination, count: length, from: offset, limit: limit).get()
        guard read == length else { throw truncated(needed: end) }
    }

    private func truncated(needed: UInt64) -> VMMError {
        switch role {
        case .kernel: .truncatedKernel(path: path, needed: needed, found: byteCount)
        case .initrd: .initrdUnreadable(path: path, errno: .ioError)
        }
    }

    private func outsideMemory(_ address: UInt64, _ count: UInt64, _ memory: GuestMemory) -> VMMError {
        .segmentOutsideMemory(path: path, address: address, byteCount: count, memory: memory.byteCount)
    }

    /// Reads until `count` bytes are read or the file ends, and returns their number. Checks the limit between pieces.
    private func fill(_ destination: UnsafeMutableRawPointer, count: Int, from offset: UInt64, limit: LoadingLimit?)
        -> Result<Int, VMMError>
    {
        var done = 0
        while done < count {
            do throws(VMMError) { try limit?.check(path) } catch { return .failure(error) }
            let bytes = min(count - done, LoadingLimit.pieceByteCount)
            // SAFETY: the caller gives `count` bytes at `destination`, and done + bytes <= count.
            let result = unsafe pread(
                descriptor.rawValue, destination + done, bytes, off_t(truncatingIfNeeded: offset) &+ off_t(done))
            if result == 0 { break }
            if result < 0 {
                if errno == EINTR { continue }
                return .failure(BootFile.unreadable(path, role, Errno(rawValue: errno)))
            }
            done += result
        }
        return .success(done)
    }

    private static func unreadable(_ path: String, _ role: Role, _ errno: Errno?) -> VMMError {
        switch role {
        case .kernel: .kernelUnreadable(path: path, errno: errno)
        case .initrd: .initrdUnreadable(path: path, errno: errno)
        }
    }
}
