// SPDX-License-Identifier: Apache-2.0

/// An open kernel file with a checked header: a bzImage or an ELF executable.
struct KernelImage: ~Copyable {
    enum Format: Equatable {
        case bzImage(SetupHeader)
        case elf(ELFExecutable)
    }

    /// The loaded kernel's requirements for the rest of the boot data.
    struct Requirements: Equatable {
        /// GPA of the 64-bit entry.
        var entry: UInt64
        /// Guest memory that nothing else may use until the kernel has read the memory map.
        var occupied: [Range<UInt64>]
        /// Longest command line without its zero byte.
        var commandLineLimit: Int
        /// Highest address that a byte of the initial RAM disk may have.
        var highestInitrdAddress: UInt64
        /// The setup header's bytes for boot_params.
        var setupHeader: [UInt8]
    }

    let format: Format
    private let file: BootFile

    /// Opens the file, detects its format and checks its header against the guest's memory. Loads nothing.
    init(path: String, memory: GuestMemory) throws(VMMError) {
        let opened = try BootFile(path: path, role: .kernel)
        format = try KernelImage.recognise(opened, memory: memory)
        file = opened
    }

    private static func recognise(_ file: borrowing BootFile, memory: GuestMemory) throws(VMMError) -> Format {
        let head = try file.read(offset: 0, atMost: SetupHeader.byteCountToRead)
        if ELFExecutable.recognises(head) { return .elf(try ELFExecutable(head: head, file: file, memory: memory)) }
        if SetupHeader.recognises(head) {
            let header = try SetupHeader(head: head, path: file.path, fileByteCount: file.byteCount)
            // Its end cannot overflow: the address is below 4 GiB, the size below 64 GiB.
            let end = header.preferredAddress &+ header.initializationByteCount
            guard end <= memory.lowByteCount else { throw VMMError.memoryTooSmall(needed: end, memory: memory.byteCount) }
            return .bzImage(header)
        }
        throw isText(head) ? VMMError.textFile(path: file.path) : VMMError.notAKernel(path: file.path)
    }

    /// A bzImage is Linux. So is an ELF file that starts at or above 16 MiB, where Linux is linked to and small guests are not.
    var isLinux: Bool {
        switch format {
        case .bzImage: true
        case .elf(let executable): executable.entry >= 16 << 20
        }
    }

    /// Reads the kernel into the guest's memory.
    func load(into memory: GuestMemory, limit: LoadingLimit = LoadingLimit()) throws(VMMError) -> Requirements {
        switch format {
        case .bzImage(let header):
            try file.read(
                offset: header.kernelOffset, count: header.kernelByteCount, into: memory, at: header.preferredAddress, limit: limit)
            return Requirements(
                entry: header.preferredAddress &+ 0x200,
                occupied: [header.preferredAddress..<(header.preferredAddress &+ header.initializationByteCount)],
                commandLineLimit: header.commandLineLimit, highestInitrdAddress: header.highestInitrdAddress, setupHeader: header.bytes)
        case .elf(let executable):
            for segment in executable.segments { try load(segment, into: memory, limit: limit) }
            return Requirements(
                entry: executable.entry, occupied: executable.segments.map(\.physicalRange), commandLineLimit: 2047,
                highestInitrdAddress: 0x7FFF_FFFF, setupHeader: KernelImage.setupHeaderForELF)
        }
    }

    private func load(_ segment: ELFExecutable.Segment, into memory: GuestMemory, limit: LoadingLimit) throws(VMMError) {
        try file.read(
            offset: segment.offset, count: segment.fileByteCount, into: memory, at: segment.physicalAddress, limit: limit)
        var rest = (segment.physicalAddress &+ segment.fileByteCount)..<segment.physicalRange.upperBound
        while !rest.isEmpty {
            try limit.check(file.path)
            let bytes = min(rest.count, LoadingLimit.pieceByteCount)
            try VMMError.memoryTooSmall(for: rest.upperBound, in: memory) { () throws(GuestAddressError) in
                try memory.zero(rest.lowerBound, byteCount: bytes)
            }
            rest = (rest.lowerBound &+ UInt64(bytes))..<rest.upperBound
        }
    }

    /// An ELF file brings no setup header. This is the minimum that Linux requires: the signature, a version, "loaded high".
    private static var setupHeaderForELF: [UInt8] {
        var header = [UInt8](repeating: 0, count: 0x268 - SetupHeader.start)
        header.store(UInt16(0xAA55), at: 0x1FE - SetupHeader.start)
        header.store(UInt32(0x5372_6448), at: 0x202 - SetupHeader.start)
        header.store(UInt16(0x020F), at: 0x206 - SetupHeader.start)
        header.store(UInt8(1), at: 0x211 - SetupHeader.start)
        header.store(UInt32(0x100_0000), at: 0x230 - SetupHeader.start)
        header.store(UInt32(2047), at: 0x238 - SetupHeader.start)
        return header
    }

    /// Whether the bytes are printable ASCII or UTF-8 with white space: for a better error message.
    private static func isText(_ head: [UInt8]) -> Bool {
        head.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D || $0 == 0x0C }
    }
}
