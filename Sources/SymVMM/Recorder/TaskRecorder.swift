// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI
internal import Synchronization
internal import VMMBase
internal import VMMModel

/// Counts one vCPU's exits by the guest process that caused them. Reads the process from the SymSpy local page: no symcall and no further exit.
///
/// Only the vCPU's thread writes, any thread reads. While the guest does not switch tasks, the page costs one load for each exit. The page is
/// untrusted: it only selects a line of the table. When the table is full, further processes share one line.
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
    /// SAFETY: points into `storage`, which lives as long as this object. It is zero-filled, and zero is a valid Atomic<UInt64>.
    private let cells: UnsafeMutablePointer<Cell>
    /// SAFETY: the local page in guest memory. The registration checked it, and guest memory stays mapped while vCPUs run.
    private var page: UnsafeMutableRawPointer?
    private var generations: RegistrationGeneration?
    private var generation: UInt64 = 0
    /// Sequence number of the last consistent copy, odd if there is none, and the line of its task.
    private var lastSequence: UInt32 = 1
    private var lastLine = TaskRecorder.lineCount * Word.count
    private var usedLines = 0

    init() throws(VMMError) {
        let words = (TaskRecorder.lineCount + 1) * Word.count
        storage = try MemoryMapping(anonymous: words * MemoryLayout<Cell>.stride)
        // SAFETY: see `cells`.
        unsafe cells = storage.baseAddress.bindMemory(to: Cell.self, capacity: words)
    }

    // MARK: The vCPU's thread

    /// Reads this local page from now on. Nil stops the recording.
    ///
    /// - Parameter localPage: 4096 bytes of guest memory, which stays mapped as long as vCPUs run.
    func watch(localPage: UnsafeMutableRawPointer?, _ generations: RegistrationGeneration) {
        unsafe page = localPage
        self.generations = generations
        generation = generations.current
        lastSequence = 1
    }

    /// Stops reading the local page.
    func forget() {
        unsafe page = nil
    }

    /// Counts an exit for the running task. Does nothing for a guest without the module.
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
        unsafe (page + Int(SYMBIOTIC_LOCAL_SEQUENCE)).assumingMemoryBound(to: Atomic<UInt32>.self).pointee
            .load(ordering: .acquiring)
    }

    /// Copies the new task after the guest has switched tasks. During an update by the guest, keeps the last consistent copy.
    private func follow(_ page: UnsafeMutableRawPointer, _ sequence: UInt32) {
        if generations?.current != generation {
            forget()
            return
        }
        guard sequence & 1 == 0 else { return }
        // SAFETY: offsets inside the 4096 bytes of the page; integers may hold any bits.
        let task = unsafe page + Int(SYMBIOTIC_LOCAL_TASK)
        let tgid = unsafe task.load(fromByteOffset: Int(SYMBIOTIC_TASK_TGID), as: UInt32.self)
        let startTime = unsafe task.load(fromByteOffset: Int(SYMBIOTIC_TASK_START_TIME), as: UInt64.self)
        let comm = unsafe task + Int(SYMBIOTIC_TASK_COMM)
        let name = unsafe (comm.load(as: UInt64.self), comm.load(fromByteOffset: 8, as: UInt64.self))
        guard unsafe TaskRecorder.sequence(page) == sequence else { return }
        lastSequence = sequence
        lastLine = line(tgid, startTime, name)
    }

    /// The index of the first cell of the process's line. PID and start time identify a process, so a process with a reused PID gets a new line. If
    /// the start time is 0 (unknown, in an exiting thread), uses the line of the newest process with this PID.
    private func line(_ tgid: UInt32, _ startTime: UInt64, _ name: (UInt64, UInt64)) -> Int {
        let key = UInt64(tgid) &+ 1
        var index = Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) >> 48) & (TaskRecorder.lineCount &- 1)
        var youngest: (first: Int, startTime: UInt64)?
        // At least a quarter of the lines is always empty, so the loop ends.
        while true {
            let first = index &* Word.count
            // SAFETY: `index` is below lineCount.
            let found = unsafe cells[first].load(ordering: .relaxed)
            if found == 0 { break }
            if found == key {
                let known = unsafe cells[first + Word.startTime].load(ordering: .relaxed)
                if known == startTime || known == 0 {
                    set(first, startTime, name)
                    return first
                }
                if known > youngest?.startTime ?? 0 { youngest = (first, known) }
            }
            index = (index &+ 1) & (TaskRecorder.lineCount &- 1)
        }
        if startTime == 0, let youngest {
            set(youngest.first, youngest.startTime, name)
            return youngest.first
        }
        guard usedLines < TaskRecorder.lineCount / 4 * 3 else { return TaskRecorder.lineCount &* Word.count }
        usedLines &+= 1
        let first = index &* Word.count
        set(first, startTime, name)
        // SAFETY: as above. Released after the line's words.
        unsafe cells[first].store(key, ordering: .releasing)
        return first
    }

    private func set(_ first: Int, _ startTime: UInt64, _ name: (UInt64, UInt64)) {
        // SAFETY: the caller passes the first cell of a line.
        unsafe cells[first + Word.startTime].store(startTime, ordering: .relaxed)
        unsafe cells[first + Word.name].store(name.0, ordering: .relaxed)
        unsafe cells[first + Word.name + 1].store(name.1, ordering: .relaxed)
    }

    // MARK: Any thread

    /// A process and its exits by reason.
    struct Line {
        /// PID in the guest; nil for the line that processes share when the table is full.
        let tgid: UInt32?
        /// Start of the process in nanoseconds since the guest's boot; 0 if unknown.
        let startTime: UInt64
        let name: String
        let exits: [(reason: ExitReason, count: UInt64, ticks: UInt64)]
    }

    /// All lines with exits.
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
            return Line(
                tgid: isOverflow ? nil : UInt32(truncatingIfNeeded: key &- 1),
                startTime: unsafe cells[first + Word.startTime].load(ordering: .relaxed), name: isOverflow ? "(others)" : name, exits: exits
            )
        }
    }

    /// Sixteen bytes from the guest as text: up to the first zero byte, with control characters replaced.
    static func text(_ low: UInt64, _ high: UInt64) -> String {
        let bytes = (0..<16).map { UInt8(truncatingIfNeeded: ($0 < 8 ? low : high) >> (8 * UInt64($0 % 8))) }
        return GuestText.printable(bytes)
    }
}
