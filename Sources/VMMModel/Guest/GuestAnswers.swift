// SPDX-License-Identifier: Apache-2.0

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

    /// Describes a task.
    package init(
        tgid: UInt32, pid: UInt32, name: String, uid: UInt32, context: String?, isKernelThread: Bool, parent: UInt32?, vcpu: UInt32?,
        state: String?, threadCount: UInt32?, userNanoseconds: UInt64?, systemNanoseconds: UInt64?
    ) {
        self.tgid = tgid
        self.pid = pid
        self.name = name
        self.uid = uid
        self.context = context
        self.isKernelThread = isKernelThread
        self.parent = parent
        self.vcpu = vcpu
        self.state = state
        self.threadCount = threadCount
        self.userNanoseconds = userNanoseconds
        self.systemNanoseconds = systemNanoseconds
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

    /// Values by name, in bytes.
    package init(values: [String: UInt64]) {
        self.values = values
    }
}
