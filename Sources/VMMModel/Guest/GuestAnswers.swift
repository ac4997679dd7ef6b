// SPDX-License-Identifier: Apache-2.0

/// A guest task, as reported by the guest (docs/ABI.md, 3.2 and 4.4).
public struct GuestTask: Codable, Sendable, Equatable {
    /// Process ID (tgid).
    public let tgid: UInt32
    /// Thread ID.
    public let pid: UInt32
    /// Command name; control characters are replaced.
    public let name: String
    /// Real user ID.
    public let uid: UInt32
    /// What the vCPU executed: `user`, `kernel`, `softirq`, `hardirq`, `nmi` or `idle`; nil in a list.
    public let context: String?
    /// Whether it is a kernel thread.
    public let isKernelThread: Bool
    /// Process ID of the parent; nil if the symcall does not report it.
    public let parent: UInt32?
    /// The vCPU that it runs on or last ran on.
    public let vcpu: UInt32?
    /// State letter, as in ps.
    public let state: String?
    /// Number of threads.
    public let threadCount: UInt32?
    /// CPU time in user mode, in nanoseconds.
    public let userNanoseconds: UInt64?
    /// CPU time in kernel mode, in nanoseconds.
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

/// Guest memory use in bytes, as reported by the guest. A value that the guest cannot report is absent.
public struct GuestMemoryUse: Codable, Sendable, Equatable {
    /// Values in bytes by name.
    public let values: [String: UInt64]
    /// The names in output order.
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
