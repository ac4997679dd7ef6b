// SPDX-License-Identifier: Apache-2.0

/// How much of a faulting page's neighbourhood is mapped at once: the whole policy of SwapBypass besides its switch.
///
/// A region is what one page-table page covers: 512 pages, 2 MiB. The first fault in a region maps few pages, so that a program that touches
/// one page here and one there does not pay for pages it never touches; each further fault in the same region maps many more. A region beside
/// one that turned out to be wanted as a whole is mapped as a whole at its first fault. One object a vCPU, used on its thread only: no lock, and
/// nothing is allocated after `init`.
final class SwapPolicy: @unchecked Sendable {
    /// Entries of a page-table page.
    static let regionPages: UInt64 = 512
    /// Pages mapped at the first, second, and any later fault in a region.
    private static let widths: [UInt64] = [16, 128, regionPages]
    private static let lastStep = UInt64(widths.count - 1)
    private static let rememberedRegions = 4096
    private static let stepBits: UInt64 = 3

    /// The regions with a recent fault, one for each hash value: the hash above, the step in the low bits. Two that collide forget each other.
    private var regions = [UInt64](repeating: 0, count: rememberedRegions)

    /// The pages to map, as entries of the region.
    ///
    /// - Parameters:
    ///   - entry: of the faulting page, 0 to 511.
    ///   - allowed: the entries that belong to the same mapping; `entry` lies in it.
    ///   - region: the region's number in its address space.
    ///   - space: names the address space for as long as it lives.
    func neighbourhood(of entry: UInt64, in allowed: ClosedRange<UInt64>, region: UInt64, space: UInt64) -> ClosedRange<UInt64> {
        let key = SwapPolicy.key(region, space)
        let step: UInt64
        if let known = self.step(key) {
            step = min(known &+ 1, SwapPolicy.lastStep)
        } else {
            let isBesideAWhole =
                self.step(SwapPolicy.key(region &- 1, space)) == SwapPolicy.lastStep
                || self.step(SwapPolicy.key(region &+ 1, space)) == SwapPolicy.lastStep
            step = isBesideAWhole ? SwapPolicy.lastStep : 0
        }
        regions[SwapPolicy.place(key)] = key | step
        let width = SwapPolicy.widths[Int(step)]
        // Widths are powers of two: aligned blocks, so that neighbours' blocks do not overlap.
        let first = entry & ~(width &- 1)
        return max(first, allowed.lowerBound)...min(first &+ width &- 1, allowed.upperBound)
    }

    /// How far a region has come; nil when it is not remembered.
    private func step(_ key: UInt64) -> UInt64? {
        let known = regions[SwapPolicy.place(key)]
        return known & ~SwapPolicy.stepBits == key ? known & SwapPolicy.stepBits : nil
    }

    /// Never zero, so that it is unlike an empty place.
    private static func key(_ region: UInt64, _ space: UInt64) -> UInt64 {
        ((region &+ space &* 0xc2b2_ae3d_27d4_eb4f) &* 0x9e37_79b9_7f4a_7c15 | 1 << 63) & ~stepBits
    }

    private static func place(_ key: UInt64) -> Int {
        Int(key >> 40 & UInt64(rememberedRegions - 1))
    }
}
