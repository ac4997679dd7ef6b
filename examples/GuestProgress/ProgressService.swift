// SPDX-License-Identifier: Apache-2.0

public import SymVMM

internal import SymbioticABI
internal import Synchronization

/// Receives the progress of a job in the guest. The guest's kernel rings doorbell 0x40 with the number of all items in RBX and
/// the number of items done in RCX.
public final class ProgressService: SymbioticService, @unchecked Sendable {
    /// The guest's latest report.
    public struct Progress: Sendable, Equatable {
        /// Items done.
        public var done: UInt64 = 0
        /// All items.
        public var total: UInt64 = 0
        /// The PID of the process that reported; nil if the symcall failed.
        public var process: UInt32?
    }

    /// One doorbell, and nothing else of the symbiotic interface.
    public static let claims = ServiceClaims(name: "progress", doorbells: 0x40...0x40)

    private struct State {
        var last = Progress()
        var reports: UInt64 = 0
        var refused: UInt64 = 0
    }

    private let state = Mutex(State())

    /// Creates the service for one VM.
    public init() {
        super.init(claims: ProgressService.claims)
    }

    /// The guest's latest report. Any thread.
    public var progress: Progress {
        state.withLock { $0.last }
    }

    /// Handles a report, and makes a symcall to find the process that made it. The guest chooses the values: check them.
    public override func handle(doorbell: UInt8, _ values: SymCallValues, on vcpu: SymbioticVCPU) {
        guard values.rcx <= values.rbx else { return state.withLock { $0.refused &+= 1 } }
        // RBX of the answer is tgid << 32 | pid (docs/ABI.md, 4.4).
        let task = try? vcpu.symcall(SYMBIOTIC_SYMCALL_TASK)
        let process = task.map { UInt32(truncatingIfNeeded: $0.rbx >> 32) }
        state.withLock { state in
            state.last = Progress(done: values.rcx, total: values.rbx, process: process)
            state.reports &+= 1
        }
    }

    /// Printed by `symvmm stats`, and part of the JSON and of OpenMetrics.
    public override func counters() -> [(name: String, value: UInt64)] {
        state.withLock { [("reports", $0.reports), ("refused", $0.refused)] }
    }
}
