// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Symcalls that threads other than the vCPU's have requested, oldest first. Any thread.
struct SymCallQueue: ~Copyable, Sendable {
    private let requests = Mutex<[SymCallRequest]>([])

    /// Adds a request.
    func append(_ request: SymCallRequest) {
        requests.withLock { $0.append(request) }
    }

    /// Removes a request whose thread has stopped waiting.
    func remove(_ request: SymCallRequest) {
        requests.withLock { $0.removeAll { $0 === request } }
    }

    /// Takes the oldest request; nil when there is none.
    func takeFirst() -> SymCallRequest? {
        requests.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    }

    /// Takes all requests.
    func takeAll() -> [SymCallRequest] {
        requests.withLock { requests in
            defer { requests = [] }
            return requests
        }
    }

    /// Whether there is no request.
    var isEmpty: Bool { requests.withLock { $0.isEmpty } }
}
