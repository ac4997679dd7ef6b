// SPDX-License-Identifier: Apache-2.0

/// Gives out ranges of guest-physical space above the guest's RAM: the windows in which services show the guest memory of theirs.
struct WindowAllocator: Sendable {
    /// Windows begin at a multiple of this, so that huge pages and big entries of nested page tables can be used.
    private static let alignment: UInt64 = 1 << 30

    private var next: UInt64
    private let end: UInt64

    /// Nothing is given out yet.
    ///
    /// - Parameters:
    ///   - ramEnd: GPA of the first byte behind the guest's RAM.
    ///   - addressLimit: GPA of the first byte behind all that the guest can address.
    init(ramEnd: UInt64, addressLimit: UInt64) {
        // Half of what the guest can address lies above; RAM may reach higher only on hosts with few address bits.
        next = max(addressLimit / 2, ramEnd)
        end = addressLimit
    }

    /// The next window of so many bytes; nil when there is no room.
    mutating func allocate(byteCount: UInt64) -> UInt64? {
        let (padded, overflow) = next.addingReportingOverflow(WindowAllocator.alignment - 1)
        let start = padded & ~(WindowAllocator.alignment - 1)
        guard !overflow, byteCount > 0, start <= end, byteCount <= end - start else { return nil }
        next = start + byteCount
        return start
    }

    /// Whether a range lies in what was given out, or might be. RAM does not.
    func contains(_ gpa: UInt64, byteCount: UInt64, ramEnd: UInt64) -> Bool {
        gpa >= ramEnd && gpa <= end && byteCount <= end - gpa
    }
}
