// SPDX-License-Identifier: Apache-2.0

public import VMMModel

internal import SymbioticABI
internal import Synchronization
internal import VMMBase

/// Queries of the guest by symcall (docs/ABI.md, section 4.4). Any thread but a vCPU's; each waits for the result.
extension VirtualMachine {
    /// Most bytes requested in one symcall. The handler runs with the guest's interrupts disabled.
    private static let rangeByteCount = 64 << 10
    /// Nanoseconds until a list fails, however short each symcall is: other queries wait meanwhile.
    private static let listTimeout: UInt64 = 10_000_000_000
    /// The size of a kernel stack: the least memory that a task uses.
    private static let taskByteCount: UInt64 = 16 << 10

    /// Most tasks that a guest with this much memory can have. A guest that lists more is faulty or hostile.
    static func taskLimit(memoryByteCount: UInt64) -> Int {
        min(SymCallFailure.taskLimit, Int(clamping: memoryByteCount / taskByteCount))
    }

    /// Injects PING, which returns its five arguments.
    public func ping(_ values: SymCallValues, vcpu: Int) throws(SymCallFailure) -> SymCallValues {
        try symcall(SYMBIOTIC_SYMCALL_PING, values, vcpu: vcpu)
    }

    /// The task that runs on a vCPU.
    public func currentTask(vcpu: Int) throws(SymCallFailure) -> GuestTask {
        let response = try requestSymCall(SYMBIOTIC_SYMCALL_TASK, SymCallValues(), vcpu: vcpu)
        return GuestTask(try response.result.get(), vcpu: vcpu, fromUserMode: response.fromUserMode)
    }

    /// uname(2) of the guest: sysname, nodename, release, version, machine, domainname.
    public func guestName() throws(SymCallFailure) -> [String: String] {
        let record = try fill(SYMBIOTIC_SYMCALL_UNAME, byteCount: Int(SYMBIOTIC_UNAME_SIZE)) { $0.rbx }.record
        let names = ["sysname", "nodename", "release", "version", "machine", "domainname"]
        return Dictionary(
            uniqueKeysWithValues: names.enumerated().map { ($1, record.text(Int(SYMBIOTIC_UTS_SIZE) * $0, Int(SYMBIOTIC_UTS_SIZE))) })
    }

    /// The guest's memory use.
    public func guestMemoryUse() throws(SymCallFailure) -> GuestMemoryUse {
        let record = try fill(SYMBIOTIC_SYMCALL_MEMORY, byteCount: Int(SYMBIOTIC_MEMORY_SIZE)) { $0.rbx }.record
        guard let use = GuestMemoryUse(record) else { throw .invalidResponse }
        return use
    }

    /// All processes of the guest, or all threads, by number.
    public func guestTasks(threads: Bool = false) throws(SymCallFailure) -> [GuestTask] {
        var tasks: [GuestTask] = []
        var cursor: UInt64 = 0
        let limit = VirtualMachine.taskLimit(memoryByteCount: memory.byteCount)
        let deadline = TickClock.monotonicNanoseconds() &+ VirtualMachine.listTimeout
        while true {
            if TickClock.monotonicNanoseconds() > deadline { throw .noResponse }
            let (record, results) = try fill(
                SYMBIOTIC_SYMCALL_TASKS, byteCount: VirtualMachine.rangeByteCount, cursor,
                threads ? UInt64(SYMBIOTIC_TASKS_THREADS) : 0
            ) { $0.rcx }
            guard let stride = Int(exactly: results.rsi), stride >= GuestTask.recordByteCount,
                let count = Int(exactly: results.rbx), count <= record.bytes.count / stride
            else { throw .invalidResponse }
            guard count <= limit - tasks.count else { throw .tooManyTasks }
            tasks += (0..<count).map { GuestTask(record: GuestRecord(bytes: record.bytes.dropFirst($0 * stride).prefix(stride))) }
            guard results.rdx != 0 else { return tasks }
            guard results.rdx > cursor else { throw .invalidResponse }
            cursor = results.rdx
        }
    }

    /// The newest kernel messages, oldest first.
    ///
    /// - Parameter byteLimit: most bytes of text. The text begins with a whole message.
    public func guestLog(byteLimit: Int = 1 << 20) throws(SymCallFailure) -> String {
        var pieces: [String] = []
        var byteCount = 0
        var cursor: UInt64 = 0
        let deadline = TickClock.monotonicNanoseconds() &+ VirtualMachine.listTimeout
        while true {
            if TickClock.monotonicNanoseconds() > deadline { throw .noResponse }
            let (record, results) = try fill(SYMBIOTIC_SYMCALL_LOG, byteCount: VirtualMachine.rangeByteCount, cursor) { $0.rcx }
            byteCount += record.bytes.count
            guard byteCount <= byteLimit else { break }
            pieces.append(GuestText.lines(record.bytes))
            guard results.rdx != 0 else { break }
            // Cursors decrease. A guest whose cursors do not would keep the loop running.
            guard cursor == 0 || results.rdx < cursor else { throw .invalidResponse }
            cursor = results.rdx
        }
        return pieces.reversed().joined()
    }

    /// Makes a symcall that writes into the shared buffer, and copies the record.
    ///
    /// - Parameter written: takes the record's byte count from the results.
    private func fill(
        _ number: UInt32, byteCount: Int, _ cursor: UInt64 = 0, _ flags: UInt64 = 0, written: (SymCallValues) -> UInt64
    ) throws(SymCallFailure) -> (record: GuestRecord, results: SymCallValues) {
        // One query at a time: they all use the start of the buffer.
        let outcome = guestQueries.withLock { _ -> Result<(GuestRecord, SymCallValues), SymCallFailure> in
            Result { () throws(SymCallFailure) in
                guard let symbiotic else { throw .notOffered }
                guard let buffer = symbiotic.sharedBuffer else { throw symbiotic.unavailableReason ?? .noModule }
                // The second half belongs to the services.
                let length = min(byteCount, buffer.byteCount / 2) & ~15
                let results = try symcall(number, SymCallValues(0, UInt64(length), cursor, flags))
                guard let count = Int(exactly: written(results)), count <= length,
                    let bytes = try? memory.read(buffer.address, byteCount: count)
                else { throw .invalidResponse }
                return (GuestRecord(bytes: bytes[...]), results)
            }
        }
        return try outcome.get()
    }
}
