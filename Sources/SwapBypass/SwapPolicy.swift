// SPDX-License-Identifier: Apache-2.0

/// Chooses how many pages around a faulting page the guest maps.
///
/// A region is the range of one page-table page: 512 pages, 2 MiB. The first fault in a region maps few pages, so that a program with sparse
/// accesses does not pay for pages that it never uses. Each further fault in the region maps more. Next to a region that was mapped whole, the first
/// fault maps the whole region. One object for each vCPU, used on its thread only: no lock, and no allocation after `init`.
final class SwapPolicy: @unchecked Sendable {
    /// Entries of a page-table page.
    static let regionPages: UInt64 = 512
    /// Pages to map at the first, the second and each later fault in a region.
    private static let widths: [UInt64] = [16, 128, regionPages]
    private static let lastStep = UInt64(widths.count - 1)
    private static let cacheSize = 4096
    private static let stepBits: UInt64 = 3

    /// A cache of regions with recent faults, direct-mapped by hash. An entry has the hash, and in its low bits the index into `widths`.
    private var regions = [UInt64](repeating: 0, count: cacheSize)

    /// The entries of the region to map.
    ///
    /// - Parameters:
    ///   - entry: entry of the faulting page, 0 to 511.
    ///   - allowed: entries in the same VMA; contains `entry`.
    ///   - region: the region's number in its address space.
    ///   - space: identifies the address space.
    func neighbourhood(of entry: UInt64, in allowed: ClosedRange<UInt64>, region: UInt64, space: UInt64) -> ClosedRange<UInt64> {
        let key = SwapPolicy.key(region, space)
        let step: UInt64
        if let known = self.step(key) {
            step = min(known &+ 1, SwapPolicy.lastStep)
        } else {
            let isNextToWholeRegion =
                self.step(SwapPolicy.key(region &- 1, space)) == SwapPolicy.lastStep
                || self.step(SwapPolicy.key(region &+ 1, space)) == SwapPolicy.lastStep
            step = isNextToWholeRegion ? SwapPolicy.lastStep : 0
        }
        regions[SwapPolicy.place(key)] = key | step
        let width = SwapPolicy.widths[Int(step)]
        // Widths are powers of two, so blocks are aligned and do not overlap.
        let first = entry & ~(width &- 1)
        return max(first, allowed.lowerBound)...min(first &+ width &- 1, allowed.upperBound)
    }

    /// A region's index into `widths`; nil when the region is not in the cache.
    private func step(_ key: UInt64) -> UInt64? {
        let known = regions[SwapPolicy.place(key)]
        return known & ~SwapPolicy.stepBits == key ? known & SwapPolicy.stepBits : nil
    }

    /// Never 0, which marks an empty entry.
    private static func key(_ region: UInt64, _ space: UInt64) -> UInt64 {
        ((region &+ space &* 0xc2b2_ae3d_27d4_eb4f) &* 0x9e37_79b9_7f4a_7c15 | 1 << 63) & ~stepBits
    }

    private static func place(_ key: UInt64) -> Int {
        Int(key >> 40 & UInt64(cacheSize - 1))
    }
}
