// SPDX-License-Identifier: Apache-2.0

/// How much of a faulting page's neighbourhood is mapped at once: the whole policy of SwapBypass besides its switch.
///
/// A region is what one page-table page covers: 512 pages, 2 MiB. The first fault in a region maps few pages, so that a program that touches
/// one page here and one there does not pay for pages it never touches; each further fault in the same region maps many more. One object a
/// vCPU, used on its thread only: no lock, and nothing is allocated after `init`.
final class SwapPolicy: @unchecked Sendable {
    /// Entries of a page-table page.
    static let regionPages: UInt64 = 512
    /// Pages mapped at the first, second, and any later fault in a region.
    private static let widths: [UInt64] = [16, 128, regionPages]
    private static let rememberedRegions = 4096

    /// The regions with a recent fault, one for each hash value: the region's number above, the count of faults in the low bits.
    private var regions = [UInt64](repeating: 0, count: rememberedRegions)

    /// The pages to map, as entries of the region.
    ///
    /// - Parameters:
    ///   - entry: of the faulting page, 0 to 511.
    ///   - allowed: the entries that belong to the same mapping; `entry` lies in it.
    ///   - region: names the region for as long as it lives: address space and address. Two that collide only share their count.
    func neighbourhood(of entry: UInt64, in allowed: ClosedRange<UInt64>, region: UInt64) -> ClosedRange<UInt64> {
        let key = (region &* 0x9e37_79b9_7f4a_7c15) & ~3
        let place = Int(key >> 52) % SwapPolicy.rememberedRegions
        let known = regions[place]
        let count = known & ~3 == key ? min(known & 3 &+ 1, UInt64(SwapPolicy.widths.count - 1)) : 0
        regions[place] = key | count
        let width = SwapPolicy.widths[Int(count)]
        // Widths are powers of two: aligned blocks, so that neighbours' blocks do not overlap.
        let first = entry & ~(width &- 1)
        return max(first, allowed.lowerBound)...min(first &+ width &- 1, allowed.upperBound)
    }
}
