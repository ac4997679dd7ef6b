// SPDX-License-Identifier: Apache-2.0

internal import CKVM

/// A task of the guest, as the guest says (docs/ABI.md, 3.2 and 4.4).
public struct GuestTask: Codable, Sendable, Equatable {
    /// Process number.
    public let tgid: UInt32
    /// Thread number.
    public let pid: UInt32
    /// Name, unprintable characters replaced.
    public let name: String
    /// Real user number.
    public let uid: UInt32
    /// Where the vCPU was: `user`, `kernel`, `softirq`, `hardirq`, `nmi` or `idle`; nil in a list.
    public let context: String?
    /// A kernel thread.
    public let isKernelThread: Bool
    /// Process number of the parent; nil where it was not asked for.
    public let parent: UInt32?
    /// The vCPU where it runs or ran last.
    public let vcpu: UInt32?
    /// A letter as ps shows it.
    public let state: String?
    /// Number of threads.
    public let threadCount: UInt32?
    /// Nanoseconds of processor time, in user mode and in the kernel.
    public let userNanoseconds: UInt64?
    /// Nanoseconds in the kernel.
    public let systemNanoseconds: UInt64?

    enum CodingKeys: String, CodingKey {
        case tgid, pid, name, uid, context, parent, vcpu, state
        case isKernelThread = "kernel_thread"
        case threadCount = "threads"
        case userNanoseconds = "user_ns"
        case systemNanoseconds = "system_ns"
    }
}

/// The guest's memory in bytes, as the guest counts it; nil: it cannot tell.
public struct GuestMemoryUse: Codable, Sendable, Equatable {
    /// Names in the order of the record, with their values in bytes.
    public let values: [String: UInt64]
    /// The order in which to print.
    public static let names = [
        "total", "free", "file", "swap_cached", "dirty", "writeback", "anonymous", "mapped", "shared", "slab_reclaimable",
        "slab_unreclaimable", "page_tables", "kernel_stacks", "swap_total", "swap_free",
    ]

    /// Encodes as a plain object.
    public func encode(to encoder: any Encoder) throws {
        try values.encode(to: encoder)
    }

    /// Decodes from a plain object.
    public init(from decoder: any Decoder) throws {
        values = try [String: UInt64](from: decoder)
    }

    /// Decodes struct symbiotic_memory; nil when the page size makes no sense.
    init?(_ record: GuestRecord) {
        let pageSize = record.long(0)
        guard (4096...65536).contains(pageSize) else { return nil }
        var values: [String: UInt64] = [:]
        for (index, name) in GuestMemoryUse.names.enumerated() {
            let pages = record.long(8 + 8 * index)
            let (bytes, overflow) = pages.multipliedReportingOverflow(by: pageSize)
            if pages != .max, !overflow { values[name] = bytes }
        }
        self.values = values
    }
}

/// A copy of what the guest wrote into its shared buffer: bytes that may be anything.
struct GuestRecord {
    let bytes: ArraySlice<UInt8>

    /// A little-endian number of four bytes; 0 behind the end.
    func word(_ offset: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: number(offset, 4))
    }

    /// A little-endian number of eight bytes; 0 behind the end.
    func long(_ offset: Int) -> UInt64 {
        number(offset, 8)
    }

    /// Text of at most so many bytes.
    func text(_ offset: Int, _ count: Int) -> String {
        GuestText.printable(bytes.dropFirst(offset).prefix(count))
    }

    private func number(_ offset: Int, _ count: Int) -> UInt64 {
        bytes.dropFirst(offset).prefix(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}

extension GuestTask {
    /// Bytes of struct symbiotic_task_record, version 1.
    static let recordByteCount = 80

    /// Decodes struct symbiotic_task_record.
    init(record: GuestRecord) {
        let letter = UInt8(truncatingIfNeeded: record.word(0x30))
        self.init(
            tgid: record.word(0), pid: record.word(4), name: record.text(24, 16), uid: record.word(8), context: nil,
            isKernelThread: record.word(12) & 2 != 0, parent: record.word(0x28), vcpu: record.word(0x2c),
            state: (65...122).contains(letter) ? String(UnicodeScalar(letter)) : "?", threadCount: record.word(0x34),
            userNanoseconds: record.long(0x38), systemNanoseconds: record.long(0x40))
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
            isKernelThread: flags & 2 != 0, parent: nil, vcpu: UInt32(vcpu), state: nil, threadCount: nil, userNanoseconds: nil,
            systemNanoseconds: nil)
    }
}
