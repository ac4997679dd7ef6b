// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VMMBase

/// A symcall that a thread other than the vCPU's requests. That thread waits here for the response.
final class SymCallRequest: Sendable {
    let number: UInt32
    let arguments: SymCallValues
    private let response = Mutex<Response?>(nil)
    private let completed: EventNotifier

    /// The outcome of the symcall.
    struct Response: Sendable {
        let result: Result<SymCallValues, SymCallFailure>
        /// The vCPU was in user mode (CPL 3) when the VMM injected the symcall.
        let fromUserMode: Bool
    }

    init(_ number: UInt32, _ arguments: SymCallValues) throws(VMMError) {
        self.number = number
        self.arguments = arguments
        completed = try EventNotifier(nonblocking: true)
    }

    /// Completes the request. Only the first call counts.
    func complete(_ result: Result<SymCallValues, SymCallFailure>, fromUserMode: Bool = false) {
        let isFirst = response.withLock { response in
            guard response == nil else { return false }
            response = Response(result: result, fromUserMode: fromUserMode)
            return true
        }
        if isFirst { completed.signal() }
    }

    /// Waits for the response; nil after the timeout.
    func wait(timeoutMilliseconds: Int32) -> Response? {
        var poller = pollfd(fd: completed.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: the count is 1, and the structure outlives the call.
        _ = unsafe poll(&poller, 1, timeoutMilliseconds)
        return response.withLock { $0 }
    }
}
