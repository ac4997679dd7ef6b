// SPDX-License-Identifier: Apache-2.0

internal import SymVMM

/// The first page of a swap area (Linux, include/linux/swap.h, union swap_header).
enum SwapHeader {
    private static let signature = Array("SWAPSPACE2".utf8)
    private static let labelOffset = 1052

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
        page.replaceSubrange(labelOffset..<labelOffset + SwapStore.serial.utf8.count, with: SwapStore.serial.utf8)
        page.replaceSubrange(page.count - signature.count..<page.count, with: signature)
        return page
    }

    /// Whether a page is a header that symvmm has written.
    static func isOurs(_ page: [UInt8]) -> Bool {
        page.count == Int(GuestMemory.pageSize) && page.suffix(signature.count).elementsEqual(signature)
            && page[labelOffset...].starts(with: SwapStore.serial.utf8)
    }
}
