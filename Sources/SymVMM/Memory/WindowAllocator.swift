// SPDX-License-Identifier: Apache-2.0

/// Allocates ranges of guest-physical address space above the guest's RAM: windows in which services map their memory for the guest.
struct WindowAllocator: Sendable {
    /// Windows begin at a multiple of this, so that nested page tables can map them with huge pages.
    private static let alignment: UInt64 = 1 << 30

    private var next: UInt64
    private let end: UInt64

    /// Creates an allocator that has allocated nothing.
    ///
    /// - Parameters:
    ///   - ramEnd: GPA of the end of the guest's RAM.
    ///   - addressLimit: end of the guest-physical address space.
    init(ramEnd: UInt64, addressLimit: UInt64) {
        // Windows use the upper half of the address space. RAM reaches into it only on hosts with few address bits.
        next = max(addressLimit / 2, ramEnd)
        end = addressLimit
    }

    /// Allocates a window and returns its GPA; nil if the address space is too small.
    mutating func allocate(byteCount: UInt64) -> UInt64? {
        let (padded, overflow) = next.addingReportingOverflow(WindowAllocator.alignment - 1)
        let start = padded & ~(WindowAllocator.alignment - 1)
        guard !overflow, byteCount > 0, start <= end, byteCount <= end - start else { return nil }
        next = start + byteCount
        return start
    }

    /// Whether a range lies in the address space for windows, allocated or not.
    func contains(_ gpa: UInt64, byteCount: UInt64, ramEnd: UInt64) -> Bool {
        gpa >= ramEnd && gpa <= end && byteCount <= end - gpa
    }
}
