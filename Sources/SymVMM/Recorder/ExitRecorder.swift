// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VMMBase
internal import VMMModel

/// One vCPU's exit statistics: a table of fixed size, written by the vCPU's thread alone and read by any thread without stopping it.
///
/// Recording allocates nothing, takes no lock and makes no system call. A line of the table belongs to one reason at one address. Its count is
/// the sum of its histogram's buckets, so a reader's count always equals its histogram and never decreases. When the table is full (a guest can
/// access 65,536 ports), further addresses share one line for each reason, so that the sums stay exact.
///
/// Times are in ticks of the time stamp counter. The reader converts them to nanoseconds.
@safe final class ExitRecorder: @unchecked Sendable {
    /// Lines for addresses: a power of two. When three quarters are used, new addresses go to the shared line of their reason.
    private static let lineCount = 512
    private static let reasonCount = 16
    /// 16 buckets to each power of two, up to 2^47 ticks (more than half a day): a bucket is 6.25 % wide.
    private static let bucketCount = 720

    /// Words of a line: key, total, minimum, maximum, then the buckets.
    private enum Word {
        static let key = 0
        static let total = 1
        static let minimum = 2
        static let maximum = 3
        static let buckets = 4
        static let count = buckets + bucketCount
    }

    private typealias Cell = Atomic<UInt64>

    private let storage: MemoryMapping
    /// SAFETY: points into `storage`, which lives as long as this object. It is zero-filled, and zero is a valid Atomic<UInt64>.
    private let cells: UnsafeMutablePointer<Cell>
    private let guestTime = Cell(0)
    /// Written by the vCPU's thread only.
    private var usedLines = 0

    init() throws(VMMError) {
        let words = (ExitRecorder.lineCount + ExitRecorder.reasonCount) * Word.count
        storage = try MemoryMapping(anonymous: words * MemoryLayout<Cell>.stride)
        // SAFETY: see `cells`.
        unsafe cells = storage.baseAddress.bindMemory(to: Cell.self, capacity: words)
    }

    /// Adds time spent inside KVM_RUN. The vCPU's thread only.
    @inline(__always)
    func recordGuest(ticks: UInt64) {
        guestTime.store(guestTime.load(ordering: .relaxed) &+ ticks, ordering: .relaxed)
    }

    /// Counts an exit. The vCPU's thread only.
    ///
    /// - Parameters:
    ///   - address: port, GPA or MSR; 0 if the reason has none.
    ///   - ticks: time from KVM_RUN's return until the exit was handled.
    @inline(__always)
    func record(_ reason: ExitReason, address: UInt64, ticks: UInt64) {
        let line = line(reason, address)
        // SAFETY: line(_:_:) returns the index of a line's first cell; the words and buckets below are inside that line.
        unsafe ExitRecorder.add(ticks, to: cells + line + Word.total)
        let shortest = unsafe cells[line + Word.minimum].load(ordering: .relaxed)
        if shortest == 0 || ticks < shortest { unsafe cells[line + Word.minimum].store(max(ticks, 1), ordering: .relaxed) }
        let longest = unsafe cells[line + Word.maximum].load(ordering: .relaxed)
        if ticks > longest {
            unsafe cells[line + Word.maximum].store(ticks, ordering: .relaxed)
        }
        unsafe ExitRecorder.add(1, to: cells + line + Word.buckets + ExitRecorder.bucket(ticks))
    }

    /// Only one thread writes, so a load and a store suffice instead of a locked instruction.
    @inline(__always)
    private static func add(_ amount: UInt64, to cell: UnsafeMutablePointer<Cell>) {
        // SAFETY: the caller passes a cell of the table.
        unsafe cell.pointee.store(cell.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    /// The index of the first cell of the line for a reason and an address. Uses an empty line for a new pair.
    @inline(__always)
    private func line(_ reason: ExitReason, _ address: UInt64) -> Int {
        let key = (UInt64(reason.rawValue) &+ 1) << 56 | address & 0x00ff_ffff_ffff_ffff
        let mask = ExitRecorder.lineCount &- 1
        var index = Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) >> 48) & mask
        while true {
            let first = index &* Word.count
            // SAFETY: `index` is below lineCount by the mask.
            let found = unsafe cells[first].load(ordering: .relaxed)
            if found == key { return first }
            if found == 0 {
                guard usedLines < ExitRecorder.lineCount / 4 * 3 else { break }
                usedLines &+= 1
                // Release: a reader that sees the key also sees the line's zeroes.
                unsafe cells[first].store(key, ordering: .releasing)
                return first
            }
            index = (index &+ 1) & mask
        }
        // rawValue is below reasonCount: the lines behind the table.
        return (ExitRecorder.lineCount &+ Int(reason.rawValue)) &* Word.count
    }

    /// The bucket of a duration: exact below 16, then 16 to each power of two. The last bucket also has all longer durations.
    @inline(__always)
    static func bucket(_ ticks: UInt64) -> Int {
        if ticks < 16 { return Int(truncatingIfNeeded: ticks) }
        let exponent = 63 &- ticks.leadingZeroBitCount
        let index = (exponent &- 3) &* 16 &+ Int(truncatingIfNeeded: (ticks >> UInt64(exponent &- 4)) & 15)
        return min(index, bucketCount &- 1)
    }

    /// The longest duration that falls into a bucket.
    static func upperBound(ofBucket index: Int) -> UInt64 {
        if index < 16 { return UInt64(index) }
        let exponent = UInt64(index / 16 + 3)
        let step = UInt64(index % 16)
        return ((16 + step + 1) << (exponent - 4)) - 1
    }

    /// Ticks inside KVM_RUN so far. Any thread.
    var guestTicks: UInt64 {
        guestTime.load(ordering: .relaxed)
    }

    /// A line as a reader sees it.
    struct Line {
        let reason: ExitReason
        /// Nil for a shared line, and for reasons without an address.
        let address: UInt64?
        let latency: LatencySummary
        /// The recorded address, whatever the reason.
        let number: UInt32
    }

    /// All lines with exits. Any thread. `nanoseconds` converts the times.
    func lines(nanoseconds: (UInt64) -> UInt64) -> [Line] {
        (0..<(ExitRecorder.lineCount + ExitRecorder.reasonCount)).compactMap { index in
            let first = index * Word.count
            let isOverflow = index >= ExitRecorder.lineCount
            // SAFETY: `first` is the start of one of the table's lines; all offsets stay inside it.
            let key = unsafe cells[first + Word.key].load(ordering: .acquiring)
            let code = isOverflow ? UInt8(index - ExitRecorder.lineCount) : UInt8(truncatingIfNeeded: (key >> 56) &- 1)
            guard isOverflow || key != 0, let reason = ExitReason(rawValue: code) else { return nil }
            var buckets: [LatencySummary.Bucket] = []
            for bucket in 0..<ExitRecorder.bucketCount {
                let count = unsafe cells[first + Word.buckets + bucket].load(ordering: .relaxed)
                guard count > 0 else { continue }
                let bound = nanoseconds(ExitRecorder.upperBound(ofBucket: bucket))
                // The bounds of the shortest buckets may differ by less than a nanosecond.
                if let last = buckets.last, last.upperBound == bound {
                    buckets[buckets.count - 1] = .init(upperBound: bound, count: last.count &+ count)
                } else {
                    buckets.append(.init(upperBound: bound, count: count))
                }
            }
            guard !buckets.isEmpty else { return nil }
            let latency = unsafe LatencySummary(
                total: nanoseconds(cells[first + Word.total].load(ordering: .relaxed)),
                minimum: nanoseconds(cells[first + Word.minimum].load(ordering: .relaxed)),
                maximum: nanoseconds(cells[first + Word.maximum].load(ordering: .relaxed)),
                buckets: buckets)
            return Line(
                reason: reason, address: isOverflow || !reason.hasAddress ? nil : key & 0x00ff_ffff_ffff_ffff, latency: latency,
                number: UInt32(truncatingIfNeeded: key))
        }
    }
}
