// SPDX-License-Identifier: Apache-2.0

/// An ELF64 executable for x86-64, its loadable segments checked against the guest's memory (System V ABI, "Object Files").
struct ELFExecutable: Equatable {
    struct Segment: Equatable {
        let offset: UInt64
        let fileByteCount: UInt64
        /// GPA.
        let physicalAddress: UInt64
        let virtualAddress: UInt64
        let memoryByteCount: UInt64

        /// The segment's GPA range. Its end does not overflow (checked).
        var physicalRange: Range<UInt64> {
            physicalAddress..<(physicalAddress &+ memoryByteCount)
        }
    }

    /// The loadable segments that are not empty, in the file's order.
    let segments: [Segment]
    /// GPA of the first instruction.
    let entry: UInt64

    private static let headerByteCount = 64
    private static let programHeaderByteCount = 56
    /// Maximum number of program headers. Linux has 5.
    static let programHeaderLimit = 256

    static func recognises(_ head: [UInt8]) -> Bool {
        head.starts(with: [0x7F, 0x45, 0x4C, 0x46])
    }

    /// Reads the headers of a file that `recognises` accepted.
    init(head: [UInt8], file: borrowing BootFile, memory: GuestMemory) throws(VMMError) {
        let path = file.path
        try ELFExecutable.checkIdentity(head, path: path, fileByteCount: file.byteCount)
        guard let entry = head.littleEndian(at: 24, as: UInt64.self), let tableOffset = head.littleEndian(at: 32, as: UInt64.self),
            let entrySize = head.littleEndian(at: 54, as: UInt16.self), let count = head.littleEndian(at: 56, as: UInt16.self)
        else { throw VMMError.truncatedKernel(path: path, needed: UInt64(ELFExecutable.headerByteCount), found: file.byteCount) }
        guard Int(entrySize) == ELFExecutable.programHeaderByteCount, count > 0, count < 0xFFFF else {
            throw VMMError.malformedKernel(path: path, detail: "it has no usable program headers")
        }
        guard Int(count) <= ELFExecutable.programHeaderLimit else {
            throw VMMError.malformedKernel(
                path: path, detail: "it has \(count) program headers, more than \(ELFExecutable.programHeaderLimit)")
        }
        let tableByteCount = Int(count) * ELFExecutable.programHeaderByteCount
        let (tableEnd, overflow) = tableOffset.addingReportingOverflow(UInt64(tableByteCount))
        guard !overflow, tableEnd <= file.byteCount else {
            throw VMMError.truncatedKernel(path: path, needed: overflow ? .max : tableEnd, found: file.byteCount)
        }
        let table = try file.read(offset: tableOffset, atMost: tableByteCount)
        var segments: [Segment] = []
        for index in 0..<Int(count) {
            let header = index * ELFExecutable.programHeaderByteCount
            guard let segment = try ELFExecutable.segment(table, at: header, path: path, fileByteCount: file.byteCount) else { continue }
            try ELFExecutable.check(segment, path: path, memory: memory)
            segments.append(segment)
        }
        guard !segments.isEmpty else { throw VMMError.malformedKernel(path: path, detail: "it has no loadable segment") }
        try ELFExecutable.checkDisjoint(segments, path: path)
        self.entry = try ELFExecutable.physicalEntry(entry, segments: segments, path: path)
        self.segments = segments
    }

    private static func checkIdentity(_ head: [UInt8], path: String, fileByteCount: UInt64) throws(VMMError) {
        guard head.count > 4 else { throw VMMError.truncatedKernel(path: path, needed: UInt64(headerByteCount), found: fileByteCount) }
        guard head[4] != 1 else { throw VMMError.not64Bit(path: path) }  // ELFCLASS32
        guard let type = head.littleEndian(at: 16, as: UInt16.self), let machine = head.littleEndian(at: 18, as: UInt16.self) else {
            throw VMMError.truncatedKernel(path: path, needed: UInt64(headerByteCount), found: fileByteCount)
        }
        guard head[4] == 2, head[6] == 1 else { throw VMMError.malformedKernel(path: path, detail: "its ELF header is unknown") }
        guard head[5] == 1 else { throw VMMError.wrongMachine(path: path, machine: machine.byteSwapped) }  // not ELFDATA2LSB
        guard machine == 62 else { throw VMMError.wrongMachine(path: path, machine: machine) }  // EM_X86_64
        guard type == 2 else { throw VMMError.notExecutable(path: path, type: type) }  // ET_EXEC
    }

    /// The segment that a program header describes; nil if it is not loadable or is empty.
    private static func segment(_ table: [UInt8], at offset: Int, path: String, fileByteCount: UInt64) throws(VMMError) -> Segment? {
        guard let type = table.littleEndian(at: offset, as: UInt32.self),
            let fileOffset = table.littleEndian(at: offset + 8, as: UInt64.self),
            let virtualAddress = table.littleEndian(at: offset + 16, as: UInt64.self),
            let physicalAddress = table.littleEndian(at: offset + 24, as: UInt64.self),
            let fileSize = table.littleEndian(at: offset + 32, as: UInt64.self),
            let memorySize = table.littleEndian(at: offset + 40, as: UInt64.self)
        else { throw VMMError.truncatedKernel(path: path, needed: fileByteCount &+ 1, found: fileByteCount) }
        guard type == 1, memorySize > 0 || fileSize > 0 else { return nil }  // PT_LOAD
        guard fileSize <= memorySize else {
            throw VMMError.malformedKernel(path: path, detail: "a segment has more bytes in the file than in memory")
        }
        let (fileEnd, overflow) = fileOffset.addingReportingOverflow(fileSize)
        guard !overflow, fileEnd <= fileByteCount else {
            throw VMMError.truncatedKernel(path: path, needed: overflow ? .max : fileEnd, found: fileByteCount)
        }
        return Segment(
            offset: fileOffset, fileByteCount: fileSize, physicalAddress: physicalAddress, virtualAddress: virtualAddress,
            memoryByteCount: memorySize)
    }

    private static func check(_ segment: Segment, path: String, memory: GuestMemory) throws(VMMError) {
        guard let length = Int(exactly: segment.memoryByteCount), memory.contains(segment.physicalAddress, byteCount: length) else {
            throw VMMError.segmentOutsideMemory(
                path: path, address: segment.physicalAddress, byteCount: segment.memoryByteCount, memory: memory.byteCount)
        }
        guard !BootLayout.bootData.contains(where: { $0.overlaps(segment.physicalRange) }) else {
            throw VMMError.segmentInReservedArea(
                path: path, address: segment.physicalAddress, byteCount: segment.memoryByteCount)
        }
    }

    /// Throws if segments overlap. So the loader never writes more bytes than the guest has memory.
    private static func checkDisjoint(_ segments: [Segment], path: String) throws(VMMError) {
        let ranges = segments.map(\.physicalRange).sorted { $0.lowerBound < $1.lowerBound }
        for (lower, upper) in zip(ranges, ranges.dropFirst()) where lower.upperBound > upper.lowerBound {
            throw VMMError.malformedKernel(
                path: path, detail: "two of its segments overlap at 0x\(String(upper.lowerBound, radix: 16))")
        }
    }

    /// Linux's entry is a physical address, that of other kernels a virtual one, which is translated by the segment that contains it.
    private static func physicalEntry(_ entry: UInt64, segments: [Segment], path: String) throws(VMMError) -> UInt64 {
        var physical: UInt64?
        if segments.contains(where: { $0.physicalRange.contains(entry) }) {
            physical = entry
        } else if let segment = segments.first(where: { entry >= $0.virtualAddress && entry &- $0.virtualAddress < $0.memoryByteCount }) {
            physical = segment.physicalAddress &+ (entry &- segment.virtualAddress)
        }
        guard let physical, physical < BootLayout.identityMapEnd else { throw VMMError.entryOutsideSegments(path: path, entry: entry) }
        return physical
    }
}
