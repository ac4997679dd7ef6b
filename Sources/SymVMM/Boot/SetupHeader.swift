// SPDX-License-Identifier: Apache-2.0

/// The setup header of a bzImage (Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"), read and checked.
struct SetupHeader: Equatable {
    /// Offset of the header's first byte, the same in the file and in boot_params.
    static let start = 0x1F1
    /// boot_params has room for the header up to here.
    static let roomEnd = 0x290
    /// Bytes of the file that hold the boot sector and the longest header that boot_params has room for.
    static let byteCountToRead = roomEnd
    /// Protocol 2.12: the first with xloadflags.
    static let oldestProtocol: UInt16 = 0x020C

    /// The header's bytes from `start`, for boot_params.
    let bytes: [UInt8]
    /// Where the protected-mode kernel begins in the file.
    let kernelOffset: UInt64
    /// Length of the protected-mode kernel.
    let kernelByteCount: UInt64
    /// pref_address: the GPA at which the kernel is loaded.
    let preferredAddress: UInt64
    /// init_size: bytes from there that the kernel uses before it reads the memory map.
    let initializationByteCount: UInt64
    /// Highest address that a byte of the initial RAM disk may have.
    let highestInitrdAddress: UInt64
    /// Longest command line without its zero byte.
    let commandLineLimit: Int

    /// Whether a file's first bytes are a bzImage's. A file that ends inside the header is recognised by its first two bytes.
    static func recognises(_ head: [UInt8]) -> Bool {
        if head.count >= 0x206 { return head.littleEndian(at: 0x202, as: UInt32.self) == 0x5372_6448 }  // "HdrS"
        return head.count >= 2 && head[0] == 0x4D && head[1] == 0x5A  // "MZ": the EFI stub
    }

    /// Reads the header from a file that `recognises` accepted. `head` is the file's first `byteCountToRead` bytes, or the whole of a shorter file.
    init(head: [UInt8], path: String, fileByteCount: UInt64) throws(VMMError) {
        // The end of the header is 0x202 plus the byte at 0x201, the offset of the jump over the header.
        guard head.count > 0x201 else { throw VMMError.truncatedKernel(path: path, needed: 0x264, found: fileByteCount) }
        let end = min(0x202 + Int(head[0x201]), SetupHeader.roomEnd)
        guard let version = head.littleEndian(at: 0x206, as: UInt16.self) else {
            throw VMMError.truncatedKernel(path: path, needed: UInt64(max(end, 0x208)), found: fileByteCount)
        }
        guard version >= SetupHeader.oldestProtocol else { throw VMMError.protocolTooOld(path: path, version: version) }
        guard end >= 0x264 else { throw VMMError.malformedKernel(path: path, detail: "its setup header is too short") }
        guard head.count >= end, let paragraphs = head.littleEndian(at: 0x1F4, as: UInt32.self),
            let loadFlags = head.littleEndian(at: 0x211, as: UInt8.self),
            let extendedLoadFlags = head.littleEndian(at: 0x236, as: UInt16.self),
            let alignment = head.littleEndian(at: 0x230, as: UInt32.self),
            let initrdMaximum = head.littleEndian(at: 0x22C, as: UInt32.self),
            let commandLineSize = head.littleEndian(at: 0x238, as: UInt32.self),
            let preferredAddress = head.littleEndian(at: 0x258, as: UInt64.self),
            let initializationSize = head.littleEndian(at: 0x260, as: UInt32.self)
        else { throw VMMError.truncatedKernel(path: path, needed: UInt64(end), found: fileByteCount) }

        guard extendedLoadFlags & 1 != 0 else { throw VMMError.not64Bit(path: path) }  // XLF_KERNEL_64
        guard loadFlags & 1 != 0 else { throw VMMError.malformedKernel(path: path, detail: "it is not loaded high (a zImage)") }
        guard head.littleEndian(at: 0x1FE, as: UInt16.self) == 0xAA55 else {
            throw VMMError.malformedKernel(path: path, detail: "its boot sector has no signature")
        }
        kernelOffset = (UInt64(head[SetupHeader.start] == 0 ? 4 : head[SetupHeader.start]) + 1) * 512
        kernelByteCount = UInt64(paragraphs) * 16
        guard kernelByteCount > 0x200 else { throw VMMError.malformedKernel(path: path, detail: "it has no 64-bit entry") }
        guard kernelOffset + kernelByteCount <= fileByteCount else {
            throw VMMError.truncatedKernel(path: path, needed: kernelOffset + kernelByteCount, found: fileByteCount)
        }
        guard preferredAddress >= BootLayout.highMemory, preferredAddress < BootLayout.identityMapEnd,
            alignment == 0 || preferredAddress % UInt64(alignment) == 0
        else { throw VMMError.malformedKernel(path: path, detail: "its load address is 0x\(String(preferredAddress, radix: 16))") }

        bytes = Array(head[SetupHeader.start..<end])
        self.preferredAddress = preferredAddress
        initializationByteCount = max(UInt64(initializationSize), kernelByteCount)
        highestInitrdAddress = UInt64(initrdMaximum)
        commandLineLimit = min(Int(commandLineSize), BootLayout.commandLineCapacity - 1)
    }
}
