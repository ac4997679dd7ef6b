// SPDX-License-Identifier: Apache-2.0

/// The tiers of a swap store with a budget: part of the answer of `GET /swap-bypass`.
package struct SwapTiers: Codable, Sendable, Equatable {
    /// One tier.
    package struct Tier: Codable, Sendable, Equatable {
        /// `memory`, `compressed`, `file` or `zero`.
        package let name: String
        /// Bytes of the guest's pages in the tier.
        package let pageBytes: UInt64
        /// Bytes of host memory for them, which count for the budget.
        package let memoryBytes: UInt64
        /// Touches and reads of the guest that found their page there.
        package let hits: UInt64
        /// Pages that the store has moved there.
        package let movedPages: UInt64
        /// Median and 99th percentile of the time of a hit in nanoseconds; 0: no hit was timed.
        package let p50: UInt64
        package let p99: UInt64

        /// The names of the fields.
        package enum CodingKeys: String, CodingKey {
            case name
            case pageBytes = "page_bytes"
            case memoryBytes = "memory_bytes"
            case hits
            case movedPages = "moved_pages"
            case p50 = "p50_ns"
            case p99 = "p99_ns"
        }
    }

    /// What the guest has used lately.
    package struct WorkingSet: Codable, Sendable, Equatable {
        /// Within the last seconds.
        package let seconds: Int
        /// Bytes of the swapped pages that the guest has accessed or written meanwhile.
        package let bytes: UInt64
    }

    /// Most bytes of host memory.
    package let budget: UInt64
    /// Bytes of host memory now.
    package let counted: UInt64
    /// Bytes of the compressed pages for each byte of memory that they take; nil without such pages.
    package let ratio: Double?
    /// The tiers, the fastest first.
    package let tiers: [Tier]
    /// Ascending by time.
    package let workingSet: [WorkingSet]

    /// The names of the fields.
    package enum CodingKeys: String, CodingKey {
        case budget = "budget_bytes"
        case counted = "used_bytes"
        case ratio, tiers
        case workingSet = "working_set"
    }
}
