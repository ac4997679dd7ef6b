// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VMMBase
internal import VMMModel

extension KernelStatistics {
    /// Reads all counters from a statistics descriptor; none if the descriptor is negative (an error).
    init(readingFrom descriptor: borrowing OwnedFileDescriptor) {
        self.init(counters: KernelStatistics.counters(readFrom: descriptor))
    }

    private static func counters(readFrom descriptor: borrowing OwnedFileDescriptor) -> [Counter] {
        guard descriptor.rawValue >= 0 else { return [] }
        // struct kvm_stats_header: flags, name_size, num_desc, id_offset, desc_offset, data_offset.
        let header = KernelStatistics.read(descriptor, offset: 0, count: 24)
        guard header.count == 24 else { return [] }
        let nameSize = KernelStatistics.word(header, 4)
        let number = KernelStatistics.word(header, 8)
        let descriptorOffset = KernelStatistics.word(header, 16)
        let dataOffset = KernelStatistics.word(header, 20)
        guard nameSize <= 256, number <= 4096 else { return [] }
        // struct kvm_stats_desc: flags, exponent and size (16 bits each), offset, bucket_size, then the name.
        let stride = 16 + nameSize
        let descriptors = KernelStatistics.read(descriptor, offset: descriptorOffset, count: number * stride)
        guard descriptors.count == number * stride else { return [] }
        var entries: [(name: String, offset: Int, count: Int, isCumulative: Bool)] = []
        var dataEnd = 0
        for index in 0..<number {
            let base = index * stride
            let flags = KernelStatistics.word(descriptors, base)
            let count = Int(descriptors[base + 6]) | Int(descriptors[base + 7]) << 8
            let offset = KernelStatistics.word(descriptors, base + 8)
            let name = descriptors[(base + 16)..<(base + stride)].prefix { $0 != 0 }
            entries.append((String(decoding: name, as: UTF8.self), offset, count, flags & 0xf == 0 || flags & 0xf >= 3))
            dataEnd = max(dataEnd, offset + count * 8)
        }
        let data = KernelStatistics.read(descriptor, offset: dataOffset, count: dataEnd)
        guard data.count == dataEnd else { return [] }
        return entries.map { entry in
            let sum = (0..<entry.count).reduce(UInt64(0)) { $0 &+ KernelStatistics.long(data, entry.offset + $1 * 8) }
            return Counter(name: entry.name, value: sum, isCumulative: entry.isCumulative)
        }
    }

    private static func read(_ descriptor: borrowing OwnedFileDescriptor, offset: Int, count: Int) -> [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            // SAFETY: the buffer has room for `count` bytes, and only the bytes that the kernel wrote count as filled.
            let bytes = unsafe pread(descriptor.rawValue, buffer.baseAddress, count, offset)
            filled = max(0, bytes)
        }
    }

    private static func word(_ bytes: [UInt8], _ offset: Int) -> Int {
        (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
    }

    private static func long(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * $1) }
    }
}
