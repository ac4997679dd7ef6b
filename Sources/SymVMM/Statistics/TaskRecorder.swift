// SPDX-License-Identifier: Apache-2.0

internal import CKVM
internal import Synchronization

/// Exits of one vCPU by the guest process that ran when they happened, read from the SymSpy local page: no symcall and no further exit.
///
/// Written by the vCPU's thread alone, read by any. As long as the guest does not switch tasks, an exit costs one load to see so. What the
/// guest wrote is not trusted: it only names a line of the table, and when the table is full, further processes share one line.
@safe final class TaskRecorder: @unchecked Sendable {
    private static let lineCount = 256
    private static let reasonCount = 16

    /// Words of a line: tgid plus one, start time, the 16 bytes of the name, then count and ticks for each reason.
    private enum Word {
        static let key = 0
        static let startTime = 1
        static let name = 2
        static let counts = 4
        static let ticks = counts + reasonCount
        static let count = ticks + reasonCount
    }

    private typealias Cell = Atomic<UInt64>

    private let storage: MemoryMapping
    /// SAFETY: points into `storage`, which lives as long and is zero at first: a valid Atomic<UInt64> everywhere.
    private let cells: UnsafeMutablePointer<Cell>
    /// SAFETY: the local page in guest memory, checked when it was registered; guest memory stays mapped as long as vCPUs run.
    private var page: UnsafeMutableRawPointer?
    private var interface: SymbioticInterface?
    private var generation: UInt64 = 0
    /// Sequence number at the last good copy, odd when there is none, and the line of its task.
    private var lastSequence: UInt32 = 1
    private var lastLine = TaskRecorder.lineCount * Word.count
    private var usedLines = 0

    init() throws(KVMError) {
        let words = (TaskRecorder.lineCount + 1) * Word.count
        storage = try MemoryMapping(anonymous: words * MemoryLayout<Cell>.stride)
        // SAFETY: see `cells`.
        unsafe cells = storage.baseAddress.bindMemory(to: Cell.self, capacity: words)
    }

    // MARK: The vCPU's thread

    /// Follows a local page from now on; 0 stops it.
    func watch(localPage: UInt64, _ interface: SymbioticInterface) {
        // SAFETY: the address is checked for a whole page of RAM.
        unsafe page = localPage == 0 ? nil : try? interface.memory.pointer(localPage, byteCount: Int(GuestMemory.pageSize))
        self.interface = interface
        generation = interface.generation
        lastSequence = 1
    }

    /// Stops following.
    func forget() {
        unsafe page = nil
    }

    /// Counts an exit for the task that runs now. Does nothing for a guest without the module.
    @inline(__always)
    func record(_ reason: ExitReason, ticks: UInt64) {
        guard let page = unsafe page else { return }
        let sequence = unsafe TaskRecorder.sequence(page)
        if sequence != lastSequence { unsafe follow(page, sequence) }
        // SAFETY: `lastLine` is the first cell of a line; a reason's raw value is below reasonCount.
        unsafe TaskRecorder.add(1, cells + lastLine + Word.counts + Int(reason.rawValue))
        unsafe TaskRecorder.add(ticks, cells + lastLine + Word.ticks + Int(reason.rawValue))
    }

    @inline(__always)
    private static func add(_ amount: UInt64, _ cell: UnsafeMutablePointer<Cell>) {
        // SAFETY: the caller passes a cell of the table.
        unsafe cell.pointee.store(cell.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    @inline(__always)
    private static func sequence(_ page: UnsafeMutableRawPointer) -> UInt32 {
        // SAFETY: the page is 4096 bytes, the word aligned; Atomic<UInt32> has the layout of UInt32.
        unsafe (page + Int(SymbioticProcessor.LocalPage.sequence)).assumingMemoryBound(to: Atomic<UInt32>.self).pointee
            .load(ordering: .acquiring)
    }

    /// The guest has switched tasks: copies the new one. In the middle of an update, the last good copy stays.
    private func follow(_ page: UnsafeMutableRawPointer, _ sequence: UInt32) {
        if interface?.generation != generation {
            forget()
            return
        }
        guard sequence & 1 == 0 else { return }
        // SAFETY: offsets inside the 4096 bytes of the page; integers may hold any bits.
        let task = unsafe page + Int(SymbioticProcessor.LocalPage.task)
        let tgid = unsafe task.load(as: UInt32.self)
        let startTime = unsafe task.load(fromByteOffset: 16, as: UInt64.self)
        let name = unsafe (task.load(fromByteOffset: 24, as: UInt64.self), task.load(fromByteOffset: 32, as: UInt64.self))
        guard unsafe TaskRecorder.sequence(page) == sequence else { return }
        lastSequence = sequence
        lastLine = line(tgid, startTime, name)
    }

    /// The first cell of the process' line. The start time tells a reused number apart; threads of a process differ in it, so a process is
    /// looked for by its number, and its line takes the first start time seen unless a thread leads it.
    private func line(_ tgid: UInt32, _ startTime: UInt64, _ name: (UInt64, UInt64)) -> Int {
        let key = UInt64(tgid) &+ 1
        var index = Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) >> 48) & (TaskRecorder.lineCount &- 1)
        while true {
            let first = index &* Word.count
            // SAFETY: `index` is below lineCount.
            let found = unsafe cells[first].load(ordering: .relaxed)
            if found == key || found == 0 {
                if found == 0 {
                    guard usedLines < TaskRecorder.lineCount / 4 * 3 else { return TaskRecorder.lineCount &* Word.count }
                    usedLines &+= 1
                }
                unsafe cells[first + Word.startTime].store(startTime, ordering: .relaxed)
                unsafe cells[first + Word.name].store(name.0, ordering: .relaxed)
                unsafe cells[first + Word.name + 1].store(name.1, ordering: .relaxed)
                if found == 0 { unsafe cells[first].store(key, ordering: .releasing) }
                return first
            }
            index = (index &+ 1) & (TaskRecorder.lineCount &- 1)
        }
    }

    // MARK: Any thread

    /// A process and its exits by reason.
    struct Line {
        /// Process number in the guest; nil for the line that the processes beyond the table's size share.
        let tgid: UInt32?
        let name: String
        let exits: [(reason: ExitReason, count: UInt64, ticks: UInt64)]
    }

    /// All lines that hold something.
    func lines() -> [Line] {
        (0...TaskRecorder.lineCount).compactMap { index in
            let first = index * Word.count
            // SAFETY: `first` is the start of one of the lineCount + 1 lines; all offsets stay inside it.
            let key = unsafe cells[first].load(ordering: .acquiring)
            let isOverflow = index == TaskRecorder.lineCount
            guard key != 0 || isOverflow else { return nil }
            let exits = ExitReason.allCases.compactMap { reason -> (reason: ExitReason, count: UInt64, ticks: UInt64)? in
                let count = unsafe cells[first + Word.counts + Int(reason.rawValue)].load(ordering: .relaxed)
                let ticks = unsafe cells[first + Word.ticks + Int(reason.rawValue)].load(ordering: .relaxed)
                return count == 0 ? nil : (reason, count, ticks)
            }
            guard !exits.isEmpty else { return nil }
            let name = unsafe TaskRecorder.text(
                cells[first + Word.name].load(ordering: .relaxed), cells[first + Word.name + 1].load(ordering: .relaxed))
            return Line(tgid: isOverflow ? nil : UInt32(truncatingIfNeeded: key &- 1), name: isOverflow ? "(others)" : name, exits: exits)
        }
    }

    /// Sixteen bytes of the guest's as text: up to the first zero, unprintable characters replaced.
    static func text(_ low: UInt64, _ high: UInt64) -> String {
        let bytes = (0..<16).map { UInt8(truncatingIfNeeded: ($0 < 8 ? low : high) >> (8 * UInt64($0 % 8))) }
        return GuestText.printable(bytes)
    }
}
