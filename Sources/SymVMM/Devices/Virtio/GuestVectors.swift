// SPDX-License-Identifier: Apache-2.0

public import Glibc

/// A list of ranges of the guest's memory, in the form that preadv(2) and writev(2) take.
///
/// A view into a `DescriptorChain`, valid until the chain is loaded again. Copies of the view share the ranges, so shortening one invalidates
/// the others. All ranges lie in guest memory. The guest can change the bytes at any time: copy them, then check, then use them.
@safe public struct GuestVectors {
    private var base: UnsafeMutablePointer<iovec>
    /// Number of ranges.
    public private(set) var count: Int
    /// Bytes in all ranges together.
    public private(set) var byteCount: Int

    /// Creates a view of `count` vectors that hold `byteCount` bytes together.
    init(base: UnsafeMutablePointer<iovec>, count: Int, byteCount: Int) {
        unsafe self.base = base
        self.count = count
        self.byteCount = byteCount
    }

    /// One range as host memory, to copy bytes from or to.
    ///
    /// - Parameter index: 0 ..< `count`; anything else gives an empty range.
    public subscript(index: Int) -> UnsafeMutableRawBufferPointer {
        guard index >= 0, index < count else { return unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        // SAFETY: the index is in the view, and each vector describes checked guest memory.
        return unsafe UnsafeMutableRawBufferPointer(start: base[index].iov_base, count: base[index].iov_len)
    }

    /// Passes the vectors to a system call.
    public func withVectors<Result>(_ body: (UnsafePointer<iovec>, Int32) -> Result) -> Result {
        // SAFETY: `count` vectors lie at `base` while the chain lives; count is at most 256.
        unsafe body(base, Int32(truncatingIfNeeded: count))
    }

    /// Removes bytes from the front, or all if there are fewer.
    public mutating func dropFirst(_ bytes: Int) {
        var left = min(max(bytes, 0), byteCount)
        byteCount -= left
        while left > 0, count > 0 {
            // SAFETY: count > 0, so base points to a vector of the view.
            let length = unsafe base.pointee.iov_len
            if left < length {
                // SAFETY: base points to a vector of the view, and the new start lies in the same range.
                unsafe base.pointee.iov_base += left
                unsafe base.pointee.iov_len = length - left
                return
            }
            left -= length
            unsafe base += 1
            count -= 1
        }
    }

    /// Replaces bytes at the front by as many bytes of host memory, which the caller keeps alive while the view is used. For system calls that
    /// only read. Call it once for a loaded chain, on its readable part, and only if it has that many bytes.
    mutating func replaceFirst(with bytes: UnsafeMutableRawBufferPointer) {
        dropFirst(bytes.count)
        // SAFETY: a chain has a vector in front of its readable part, and dropFirst only moves the base forward.
        unsafe base -= 1
        unsafe base.pointee = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        count += 1
        byteCount += bytes.count
    }

    /// Removes bytes from the end until at most `limit` are left.
    public mutating func truncate(to limit: Int) {
        var left = byteCount - min(max(limit, 0), byteCount)
        byteCount -= left
        while left > 0, count > 0 {
            // SAFETY: count > 0, so the last vector is in the view.
            let length = unsafe base[count - 1].iov_len
            if left < length {
                unsafe base[count - 1].iov_len = length - left
                return
            }
            left -= length
            count -= 1
        }
    }

    /// Removes the last byte and returns it; nil if the view is empty.
    mutating func takeLastByte() -> GuestByte? {
        guard count > 0, byteCount > 0 else { return nil }
        // SAFETY: the last vector of the view is not empty: the chain leaves empty descriptors out.
        let last = unsafe base[count - 1]
        guard let start = unsafe last.iov_base else { return nil }
        let byte = unsafe GuestByte(address: start + (last.iov_len - 1))
        truncate(to: byteCount - 1)
        return byte
    }

    /// Copies bytes from the front into `destination`.
    ///
    /// - Returns: how many bytes: the smaller of both lengths.
    @discardableResult
    public func copy(to destination: UnsafeMutableRawBufferPointer) -> Int {
        var done = 0
        for index in 0..<count {
            let range = unsafe self[index]
            let bytes = min(range.count, destination.count - done)
            guard bytes > 0, let source = range.baseAddress, let target = destination.baseAddress else { break }
            // SAFETY: both sides have at least `bytes` bytes left.
            unsafe memcpy(target + done, source, bytes)
            done += bytes
        }
        return done
    }

    /// Copies bytes from `source` to the front.
    ///
    /// - Returns: how many bytes: the smaller of both lengths.
    @discardableResult
    public func copy(from source: UnsafeRawBufferPointer) -> Int {
        var done = 0
        for index in 0..<count {
            let range = unsafe self[index]
            let bytes = min(range.count, source.count - done)
            guard bytes > 0, let target = range.baseAddress, let start = source.baseAddress else { break }
            // SAFETY: both sides have at least `bytes` bytes left.
            unsafe memcpy(target, start + done, bytes)
            done += bytes
        }
        return done
    }
}

/// One byte of guest memory that the device may write, with a checked address.
@safe struct GuestByte {
    private let address: UnsafeMutableRawPointer

    init(address: UnsafeMutableRawPointer) {
        unsafe self.address = address
    }

    func store(_ value: UInt8) {
        // SAFETY: GuestVectors creates it only from a checked range of guest memory, which outlives every request.
        unsafe address.storeBytes(of: value, as: UInt8.self)
    }
}
