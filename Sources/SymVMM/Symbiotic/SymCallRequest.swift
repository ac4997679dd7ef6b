// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase

/// A symcall asked for by another thread than the vCPU's, which waits here for the answer.
final class SymCallRequest: Sendable {
    let number: UInt32
    let arguments: SymCallValues
    private let state = Mutex<Answer?>(nil)
    private let finished: EventNotifier

    /// How the call went.
    struct Answer: Sendable {
        let result: Result<SymCallValues, SymCallError>
        /// The vCPU was in user mode (CPL 3) when the call was injected.
        let fromUserMode: Bool
    }

    init(_ number: UInt32, _ arguments: SymCallValues) throws(KVMError) {
        self.number = number
        self.arguments = arguments
        finished = try EventNotifier(nonblocking: true)
    }

    /// Gives the answer. Only the first one counts.
    func finish(_ result: Result<SymCallValues, SymCallError>, fromUserMode: Bool = false) {
        let isFirst = state.withLock { state in
            guard state == nil else { return false }
            state = Answer(result: result, fromUserMode: fromUserMode)
            return true
        }
        if isFirst { finished.signal() }
    }

    /// Waits at most so long; nil when there is no answer yet.
    func wait(milliseconds: Int32) -> Answer? {
        var poller = pollfd(fd: finished.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: one structure, as is said, that outlives the call.
        _ = unsafe poll(&poller, 1, milliseconds)
        return state.withLock { $0 }
    }
}
