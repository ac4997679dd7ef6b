// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The release of a Linux kernel, as its file names it and `uname -r` prints it.
public enum KernelRelease {
    /// Longest release: `__NEW_UTS_LEN` of Linux.
    static let longest = 64
    /// Bytes that are read at once to find the release of an ELF file, and how many are read at most.
    static let pieceByteCount = 1 << 20
    static let searchLimit: UInt64 = 512 << 20

    /// Reads the release from a kernel's file. Nil if the file does not name one: it is not Linux, or is damaged there.
    ///
    /// A bzImage has it in its setup header (Linux Documentation/arch/x86/boot.rst, `kernel_version`), an ELF file in Linux' banner.
    ///
    /// - Parameters:
    ///   - path: a bzImage or an ELF executable. Only the release is checked.
    ///   - limit: stops the reading early.
    public static func read(kernelPath path: String, limit: LoadingLimit = LoadingLimit()) throws(VMMError) -> String? {
        let file = try BootFile(path: path, role: .kernel)
        let head = try file.read(offset: 0, atMost: SetupHeader.byteCountToRead)
        if ELFExecutable.recognises(head) { return try search(file, limit) }
        guard SetupHeader.recognises(head), let sectors = head.littleEndian(at: SetupHeader.start, as: UInt8.self),
            let pointer = head.littleEndian(at: 0x20E, as: UInt16.self), pointer != 0
        else { return nil }
        let offset = UInt64(pointer) + 0x200
        // The text lies in the setup code, which begins with the boot sector.
        let end = (UInt64(sectors == 0 ? 4 : sectors) + 1) * 512
        guard offset < end else { return nil }
        let text = try file.read(offset: offset, atMost: Int(min(end - offset, UInt64(longest + 1))))
        return release(in: text[...], endingWith: [0x20, 0])
    }

    /// The release at the start of the bytes: it ends before one of `ends`.
    static func release(in bytes: ArraySlice<UInt8>, endingWith ends: [UInt8]) -> String? {
        guard let end = bytes.prefix(longest + 1).firstIndex(where: { ends.contains($0) }) else { return nil }
        let text = String(decoding: bytes[..<end], as: UTF8.self)
        return isRelease(text) ? text : nil
    }

    /// Whether a text is a release: it begins with a number, contains a stop, and is a name for a folder. Others are no names of Linux.
    public static func isRelease(_ text: String) -> Bool {
        guard (1...longest).contains(text.utf8.count), let first = text.utf8.first, isDigit(first), text.utf8.contains(UInt8(ascii: "."))
        else { return false }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
            case UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "+"), UInt8(ascii: "~"): true
            default: isDigit(byte)
            }
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    // MARK: The banner of an ELF file

    private static let banner = Array("Linux version ".utf8)

    /// Reads the file piece by piece. A piece begins with the end of the one before, so that none hides a banner between them.
    private static func search(_ file: borrowing BootFile, _ limit: LoadingLimit) throws(VMMError) -> String? {
        let overlap = UInt64(banner.count + longest + 2)
        var offset: UInt64 = 0
        let end = min(file.byteCount, searchLimit)
        while offset < end {
            try limit.check(file.path)
            let piece = try file.read(offset: offset, atMost: pieceByteCount)
            if let release = bannerRelease(in: piece) { return release }
            guard piece.count == pieceByteCount else { return nil }
            offset += UInt64(pieceByteCount) - overlap
        }
        return nil
    }

    /// The release of the first banner: `Linux version 6.1.0-1-amd64 (`. The format of /proc/version has `%s` there, and is none.
    static func bannerRelease(in bytes: [UInt8]) -> String? {
        var start = 0
        while let found = firstIndex(of: banner[0], in: bytes, from: start) {
            start = found + 1
            guard bytes[found...].starts(with: banner) else { continue }
            let rest = bytes[(found + banner.count)...]
            if let release = release(in: rest, endingWith: [0x20]), rest.dropFirst(release.utf8.count + 1).first == UInt8(ascii: "(") {
                return release
            }
        }
        return nil
    }

    /// memchr(3): the kernel has tens of megabytes.
    private static func firstIndex(of byte: UInt8, in bytes: [UInt8], from start: Int) -> Int? {
        unsafe bytes.withUnsafeBytes { buffer in
            guard start < buffer.count, let base = buffer.baseAddress else { return nil }
            // SAFETY: the call reads only the buffer's bytes behind `start`, which is below their number.
            guard let found = unsafe memchr(base + start, Int32(byte), buffer.count - start) else { return nil }
            return unsafe UnsafeRawPointer(found) - base
        }
    }
}
