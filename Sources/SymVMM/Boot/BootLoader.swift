// SPDX-License-Identifier: Apache-2.0

/// Loads a kernel, its initial RAM disk, its command line and the tables that describe the machine into guest memory.
enum BootLoader {
    /// Loads everything that the guest needs before its first instruction.
    ///
    /// Call it once, before a vCPU runs. It reads the two files and writes guest memory. After an error, guest memory may contain part of the
    /// data.
    ///
    /// - Parameters:
    ///   - kernelPath: a bzImage (boot protocol 2.12 or later, with a 64-bit entry) or an ELF executable for x86-64.
    ///   - initrdPath: the initial RAM disk, or nil.
    ///   - segment: one more archive of the initramfs behind it; empty for none.
    ///   - commandLine: the kernel's complete command line.
    ///   - memory: the guest's memory.
    ///   - acpi: the machine that the ACPI tables describe.
    ///   - limit: stops the loading early.
    /// - Returns: the state in which vCPU 0 starts.
    static func load(
        kernelPath: String, initrdPath: String?, segment: [UInt8] = [], commandLine: String, memory: GuestMemory, acpi: ACPIDescription,
        limit: LoadingLimit = LoadingLimit()
    ) throws(VMMError) -> BootEntry {
        let image = try KernelImage(path: kernelPath, memory: memory)
        let kernel = try image.load(into: memory, limit: limit)
        try write(commandLine, limit: kernel.commandLineLimit, memory: memory)
        let initrd = try loadInitrd(initrdPath, segment, beside: kernel, memory: memory, limit: limit)
        let rsdp = try ACPITables.write(into: memory, at: BootLayout.acpiTables, describing: acpi)
        let parameters = BootParameters(
            setupHeader: kernel.setupHeader, commandLine: BootLayout.commandLine, initrd: initrd, rsdp: rsdp,
            memoryMap: MemoryMap.entries(for: memory))
        try VMMError.memoryTooSmall(for: BootLayout.highMemory, in: memory) { () throws(GuestAddressError) in
            try memory.write(BootLayout.zeroPage, bytes: parameters.bytes)
            try BootEntry.writeTables(into: memory)
            try SoftReset.write(into: memory)
        }
        return BootEntry(
            instructionPointer: kernel.entry, bootParameters: BootLayout.zeroPage, stackPointer: BootLayout.stackTop,
            pageTableRoot: BootLayout.pageTables, gdtAddress: BootLayout.gdt, isLinux: image.isLinux)
    }

    private static func write(_ commandLine: String, limit: Int, memory: GuestMemory) throws(VMMError) {
        var bytes = Array(commandLine.utf8)
        guard bytes.count <= limit else { throw VMMError.commandLineTooLong(byteCount: bytes.count, limit: limit) }
        guard !bytes.contains(0) else { throw VMMError.commandLineHasZeroByte }
        bytes.append(0)
        try VMMError.memoryTooSmall(for: BootLayout.highMemory, in: memory) { () throws(GuestAddressError) in
            try memory.write(BootLayout.commandLine, bytes: bytes)
        }
    }

    /// Loads the initial RAM disk, and the segment behind it, at the highest allowed address. Returns the range of both, which is empty if there is
    /// neither.
    private static func loadInitrd(
        _ path: String?, _ segment: [UInt8], beside kernel: KernelImage.Requirements, memory: GuestMemory, limit limits: LoadingLimit
    ) throws(VMMError) -> Range<UInt64> {
        let limit = min(memory.lowByteCount, kernel.highestInitrdAddress &+ 1)
        guard let path else {
            guard !segment.isEmpty else { return 0..<0 }
            let byteCount = UInt64(segment.count)
            guard let start = highestPlace(for: byteCount, below: limit, avoiding: kernel.occupied) else {
                throw VMMError.memoryTooSmall(needed: kernel.entry &+ byteCount, memory: memory.byteCount)
            }
            try write(segment, at: start, memory: memory)
            return start..<(start &+ byteCount)
        }
        let file = try BootFile(path: path, role: .initrd)
        let offset = segment.isEmpty ? file.byteCount : segmentOffset(behind: file.byteCount)
        let byteCount = offset &+ UInt64(segment.count)
        guard let start = highestPlace(for: byteCount, below: limit, avoiding: kernel.occupied) else {
            throw VMMError.initrdTooLarge(path: path, byteCount: byteCount, memory: memory.byteCount)
        }
        try file.read(offset: 0, count: file.byteCount, into: memory, at: start, limit: limits)
        try write([UInt8](repeating: 0, count: Int(offset &- file.byteCount)) + segment, at: start &+ file.byteCount, memory: memory)
        return start..<(start &+ byteCount)
    }

    /// The offset of a segment behind an initial RAM disk: a multiple of 4, where the kernel expects an archive, and at least 4 bytes of zeroes behind
    /// the end, which LZ4's format takes as its own end (Linux lib/decompress_unlz4.c). The kernel skips zeroes between archives.
    static func segmentOffset(behind byteCount: UInt64) -> UInt64 {
        // A file's size is below 2^63.
        (byteCount &+ 4 &+ 3) & ~3
    }

    private static func write(_ bytes: [UInt8], at address: UInt64, memory: GuestMemory) throws(VMMError) {
        guard !bytes.isEmpty else { return }
        try VMMError.memoryTooSmall(for: address &+ UInt64(bytes.count), in: memory) { () throws(GuestAddressError) in
            try memory.write(address, bytes: bytes)
        }
    }

    /// The highest page-aligned address from which `byteCount` bytes lie below `limit`, above the first MiB and outside all of `occupied`.
    static func highestPlace(for byteCount: UInt64, below limit: UInt64, avoiding occupied: [Range<UInt64>]) -> UInt64? {
        var limit = limit
        while true {
            guard limit >= byteCount else { return nil }
            let start = (limit &- byteCount) & ~(GuestMemory.pageSize &- 1)
            guard start >= BootLayout.highMemory else { return nil }
            // The overlapping range begins below the previous limit, so the next limit is lower: the loop ends.
            guard let obstacle = occupied.first(where: { $0.overlaps(start..<(start &+ byteCount)) }) else { return start }
            guard obstacle.lowerBound < limit else { return nil }
            limit = obstacle.lowerBound
        }
    }
}
