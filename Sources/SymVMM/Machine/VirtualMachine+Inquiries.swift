// SPDX-License-Identifier: Apache-2.0

public import VMMModel

internal import SymbioticABI
internal import Synchronization
internal import VMMBase

/// Questions to the guest that are useful by themselves (docs/ABI.md, 4.4). Any thread but a vCPU's; each waits for the answer.
extension VirtualMachine {
    /// Most bytes asked for at once; the handler runs with the guest's interrupts off.
    private static let rangeByteCount = 64 << 10
    /// Most time for one list, in nanoseconds, however quick each call: others wait for their turn meanwhile.
    private static let listPatience: UInt64 = 10_000_000_000
    /// A kernel's stack for a task, the least memory that one takes.
    private static let taskByteCount: UInt64 = 16 << 10

    /// Most tasks that a guest with so much memory is believed to have: more than it has room for is a lie.
    static func taskLimit(memoryByteCount: UInt64) -> Int {
        min(SymCallError.mostTasks, Int(clamping: memoryByteCount / taskByteCount))
    }

    /// Five values there and back, injected into a vCPU.
    public func ping(_ values: SymCallValues, vcpu: Int) throws(SymCallError) -> SymCallValues {
        try symcall(SYMBIOTIC_SYMCALL_PING, values, vcpu: vcpu)
    }

    /// What runs on a vCPU now.
    public func currentTask(vcpu: Int) throws(SymCallError) -> GuestTask {
        let answer = try ask(SYMBIOTIC_SYMCALL_TASK, SymCallValues(), vcpu: vcpu)
        return GuestTask(try answer.result.get(), vcpu: vcpu, fromUserMode: answer.fromUserMode)
    }

    /// The guest's name for itself: sysname, nodename, release, version, machine, domainname.
    public func guestName() throws(SymCallError) -> [String: String] {
        let record = try fill(SYMBIOTIC_SYMCALL_UNAME, byteCount: Int(SYMBIOTIC_UNAME_SIZE)) { $0.rbx }.record
        let names = ["sysname", "nodename", "release", "version", "machine", "domainname"]
        return Dictionary(
            uniqueKeysWithValues: names.enumerated().map { ($1, record.text(Int(SYMBIOTIC_UTS_SIZE) * $0, Int(SYMBIOTIC_UTS_SIZE))) })
    }

    /// How the guest uses its memory.
    public func guestMemoryUse() throws(SymCallError) -> GuestMemoryUse {
        let record = try fill(SYMBIOTIC_SYMCALL_MEMORY, byteCount: Int(SYMBIOTIC_MEMORY_SIZE)) { $0.rbx }.record
        guard let use = GuestMemoryUse(record) else { throw .badAnswer }
        return use
    }

    /// All processes of the guest, or all threads, in the order of their numbers.
    public func guestTasks(threads: Bool = false) throws(SymCallError) -> [GuestTask] {
        var tasks: [GuestTask] = []
        var cursor: UInt64 = 0
        let limit = VirtualMachine.taskLimit(memoryByteCount: memory.byteCount)
        let deadline = TickClock.monotonicNanoseconds() &+ VirtualMachine.listPatience
        while true {
            if TickClock.monotonicNanoseconds() > deadline { throw .noAnswer }
            let (record, results) = try fill(
                SYMBIOTIC_SYMCALL_TASKS, byteCount: VirtualMachine.rangeByteCount, cursor,
                threads ? UInt64(SYMBIOTIC_TASKS_THREADS) : 0
            ) { $0.rcx }
            guard let stride = Int(exactly: results.rsi), stride >= GuestTask.recordByteCount,
                let count = Int(exactly: results.rbx), count <= record.bytes.count / stride
            else { throw .badAnswer }
            guard count <= limit - tasks.count else { throw .tooManyTasks }
            tasks += (0..<count).map { GuestTask(record: GuestRecord(bytes: record.bytes.dropFirst($0 * stride).prefix(stride))) }
            guard results.rdx != 0 else { return tasks }
            guard results.rdx > cursor else { throw .badAnswer }
            cursor = results.rdx
        }
    }

    /// The newest kernel messages, oldest first.
    ///
    /// - Parameter byteLimit: at most so many bytes of text, cut at a message.
    public func guestLog(byteLimit: Int = 1 << 20) throws(SymCallError) -> String {
        var pieces: [String] = []
        var byteCount = 0
        var cursor: UInt64 = 0
        let deadline = TickClock.monotonicNanoseconds() &+ VirtualMachine.listPatience
        while true {
            if TickClock.monotonicNanoseconds() > deadline { throw .noAnswer }
            let (record, results) = try fill(SYMBIOTIC_SYMCALL_LOG, byteCount: VirtualMachine.rangeByteCount, cursor) { $0.rcx }
            byteCount += record.bytes.count
            guard byteCount <= byteLimit else { break }
            pieces.append(GuestText.lines(record.bytes))
            guard results.rdx != 0 else { break }
            // Older ones come with smaller cursors; a guest that says otherwise would go on for ever.
            guard cursor == 0 || results.rdx < cursor else { throw .badAnswer }
            cursor = results.rdx
        }
        return pieces.reversed().joined()
    }

    /// Makes a call that writes into the shared buffer, and copies out what it wrote.
    ///
    /// - Parameter written: the byte count in the call's results.
    private func fill(
        _ number: UInt32, byteCount: Int, _ cursor: UInt64 = 0, _ flags: UInt64 = 0, written: (SymCallValues) -> UInt64
    ) throws(SymCallError) -> (record: GuestRecord, results: SymCallValues) {
        // One question at a time: they all use the start of the buffer.
        let outcome = inquiries.withLock { _ -> Result<(GuestRecord, SymCallValues), SymCallError> in
            Result { () throws(SymCallError) in
                guard let symbiotic else { throw .notOffered }
                guard let buffer = symbiotic.sharedBuffer else { throw symbiotic.obstacle ?? .noModule }
                // The other half is the services'.
                let length = min(byteCount, buffer.byteCount / 2) & ~15
                let results = try symcall(number, SymCallValues(0, UInt64(length), cursor, flags))
                guard let count = Int(exactly: written(results)), count <= length,
                    let bytes = try? memory.read(buffer.address, byteCount: count)
                else { throw .badAnswer }
                return (GuestRecord(bytes: bytes[...]), results)
            }
        }
        return try outcome.get()
    }
}
