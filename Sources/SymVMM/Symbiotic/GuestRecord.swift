// SPDX-License-Identifier: Apache-2.0

internal import SymbioticABI
internal import VMMModel

/// A copy of a record that the guest wrote into its shared buffer. The bytes are not trustworthy.
struct GuestRecord {
    let bytes: ArraySlice<UInt8>

    /// A little-endian integer of four bytes; bytes beyond the end are 0.
    func word(_ offset: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: number(offset, 4))
    }

    /// A little-endian integer of eight bytes; bytes beyond the end are 0.
    func long(_ offset: Int) -> UInt64 {
        number(offset, 8)
    }

    /// Text of at most `count` bytes.
    func text(_ offset: Int, _ count: Int) -> String {
        GuestText.printable(bytes.dropFirst(offset).prefix(count))
    }

    private func number(_ offset: Int, _ count: Int) -> UInt64 {
        bytes.dropFirst(offset).prefix(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}

extension GuestTask {
    /// Bytes of struct symbiotic_task_record, version 1.
    static let recordByteCount = Int(SYMBIOTIC_RECORD_SIZE)

    /// Decodes struct symbiotic_task_record.
    init(record: GuestRecord) {
        let letter = UInt8(truncatingIfNeeded: record.word(SYMBIOTIC_RECORD_STATE))
        self.init(
            tgid: record.word(SYMBIOTIC_TASK_TGID), pid: record.word(SYMBIOTIC_TASK_PID),
            name: record.text(SYMBIOTIC_TASK_COMM, Int(SYMBIOTIC_COMM_SIZE)), uid: record.word(SYMBIOTIC_TASK_UID), context: nil,
            isKernelThread: record.word(SYMBIOTIC_TASK_FLAGS) & SYMBIOTIC_TASK_KERNEL != 0, parent: record.word(SYMBIOTIC_RECORD_PARENT),
            vcpu: record.word(SYMBIOTIC_RECORD_CPU), state: (65...122).contains(letter) ? String(UnicodeScalar(letter)) : "?",
            threadCount: record.word(SYMBIOTIC_RECORD_THREADS), userNanoseconds: record.long(SYMBIOTIC_RECORD_USER_TIME),
            systemNanoseconds: record.long(SYMBIOTIC_RECORD_SYSTEM_TIME))
    }

    /// Decodes TASK's results.
    init(_ results: SymCallValues, vcpu: Int, fromUserMode: Bool) {
        let flags = UInt32(truncatingIfNeeded: results.rcx >> 32)
        let context: String
        if fromUserMode {
            context = "user"
        } else if flags & SYMBIOTIC_TASK_NMI != 0 {
            context = "nmi"
        } else if flags & SYMBIOTIC_TASK_HARDIRQ != 0 {
            context = "hardirq"
        } else if flags & SYMBIOTIC_TASK_SOFTIRQ != 0 {
            context = "softirq"
        } else {
            context = flags & SYMBIOTIC_TASK_IDLE != 0 ? "idle" : "kernel"
        }
        self.init(
            tgid: UInt32(truncatingIfNeeded: results.rbx >> 32), pid: UInt32(truncatingIfNeeded: results.rbx),
            name: TaskRecorder.text(results.rdx, results.rsi), uid: UInt32(truncatingIfNeeded: results.rcx), context: context,
            isKernelThread: flags & SYMBIOTIC_TASK_KERNEL != 0, parent: nil, vcpu: UInt32(vcpu), state: nil, threadCount: nil,
            userNanoseconds: nil,
            systemNanoseconds: nil)
    }
}

extension GuestMemoryUse {
    /// Decodes struct symbiotic_memory; nil when the page size is invalid.
    init?(_ record: GuestRecord) {
        let pageSize = record.long(SYMBIOTIC_MEMORY_PAGE_SIZE)
        guard (4096...65536).contains(pageSize) else { return nil }
        var values: [String: UInt64] = [:]
        for (index, name) in GuestMemoryUse.names.enumerated() {
            let pages = record.long(SYMBIOTIC_MEMORY_TOTAL + 8 * index)
            let (bytes, overflow) = pages.multipliedReportingOverflow(by: pageSize)
            if pages != .max, !overflow { values[name] = bytes }
        }
        self.init(values: values)
    }
}
