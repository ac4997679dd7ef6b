// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase

/// A kernel or initial RAM disk, open for reading. The file is the user's, so nothing in it is believed, and it may shrink meanwhile.
struct BootFile: ~Copyable {
    enum Role: Sendable {
        case kernel
        case initrd
    }

    let path: String
    /// Length in bytes when it was opened.
    let byteCount: UInt64
    private let role: Role
    private let descriptor: FileDescriptor

    /// Opens a regular file that has at least one byte.
    init(path: String, role: Role) throws(BootError) {
        let opened: FileDescriptor
        do throws(KVMError) {
            // O_NONBLOCK: opening a pipe must not wait for its writer.
            opened = try FileDescriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
        } catch {
            throw BootFile.unreadable(path, role, error.errno)
        }
        var status = stat()
        // SAFETY: the call fills only the variable.
        guard unsafe fstat(opened.rawValue, &status) == 0 else { throw BootFile.unreadable(path, role, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw BootError.notARegularFile(path: path) }
        guard status.st_size > 0 else { throw BootError.emptyFile(path: path) }
        self.path = path
        self.role = role
        byteCount = UInt64(status.st_size)
        descriptor = opened
    }

    /// Reads `count` bytes, or as many as there are from `offset`. For headers: the caller keeps `count` small.
    func read(offset: UInt64, atMost count: Int) throws(BootError) -> [UInt8] {
        guard offset < byteCount, count > 0 else { return [] }
        let available = Int(min(UInt64(count), byteCount &- offset))
        var bytes = [UInt8](repeating: 0, count: available)
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Result<Int, BootError> in
            guard let base = buffer.baseAddress else { return .success(0) }
            // SAFETY: the buffer has `available` bytes.
            return unsafe fill(base, count: available, from: offset, limit: nil)
        }
        let done = try result.get()
        return done == available ? bytes : Array(bytes.prefix(done))
    }

    /// Reads bytes of the file straight into the guest. Throws `truncatedKernel` or EIO when the file has shrunk.
    func read(offset: UInt64, count: UInt64, into memory: GuestMemory, at address: UInt64, limit: LoadingLimit) throws(BootError) {
        guard count > 0 else { return }
        let (end, overflow) = offset.addingReportingOverflow(count)
        guard !overflow, end <= byteCount else { throw truncated(needed: overflow ? .max : end) }
        guard let length = Int(exactly: count) else { throw outsideMemory(address, count, memory) }
        let destination: UnsafeMutableRawPointer
        do throws(GuestAddressError) {
            // SAFETY: for pread(2) only, which writes at most `length` bytes there.
            unsafe destination = try memory.pointer(address, byteCount: length)
        } catch {
            throw outsideMemory(address, count, memory)
        }
        // SAFETY: pointer(_:byteCount:) checked that all `length` bytes lie in guest memory, which the caller keeps.
        let read = try unsafe fill(destination, count: length, from: offset, limit: limit).get()
        guard read == length else { throw truncated(needed: end) }
    }

    private func truncated(needed: UInt64) -> BootError {
        switch role {
        case .kernel: .truncatedKernel(path: path, needed: needed, found: byteCount)
        case .initrd: .initrdUnreadable(path: path, errno: EIO)
        }
    }

    private func outsideMemory(_ address: UInt64, _ count: UInt64, _ memory: GuestMemory) -> BootError {
        .segmentOutsideMemory(path: path, address: address, byteCount: count, memory: memory.byteCount)
    }

    /// Reads until `count` bytes are there or the file ends; returns how many. Piece by piece, so that a limit is looked at.
    private func fill(_ destination: UnsafeMutableRawPointer, count: Int, from offset: UInt64, limit: LoadingLimit?)
        -> Result<Int, BootError>
    {
        var done = 0
        while done < count {
            do throws(BootError) { try limit?.check(path) } catch { return .failure(error) }
            let bytes = min(count - done, LoadingLimit.pieceByteCount)
            // SAFETY: the caller gives `count` bytes at `destination`, and done + bytes <= count.
            let result = unsafe pread(
                descriptor.rawValue, destination + done, bytes, off_t(truncatingIfNeeded: offset) &+ off_t(done))
            if result == 0 { break }
            if result < 0 {
                if errno == EINTR { continue }
                return .failure(BootFile.unreadable(path, role, errno))
            }
            done += result
        }
        return .success(done)
    }

    private static func unreadable(_ path: String, _ role: Role, _ errno: Int32) -> BootError {
        switch role {
        case .kernel: .kernelUnreadable(path: path, errno: errno)
        case .initrd: .initrdUnreadable(path: path, errno: errno)
        }
    }
}
