// SPDX-License-Identifier: Apache-2.0

internal import VMMAPI

/// Runs a request's route on a thread of its lane, and passes the response on, once.
struct APIAnswer: Sendable {
    let request: APIRequest
    let router: APIRouter
    let workers: APIWorkers
    /// Takes the response, on any thread.
    let respond: @Sendable (APIResponse) -> Void

    init(request: APIRequest, router: APIRouter, workers: APIWorkers, respond: @escaping @Sendable (APIResponse) -> Void) {
        self.request = request
        self.router = router
        self.workers = workers
        self.respond = respond
    }

    /// Queues the request, or responds with 503 if the lane's queue is full.
    func submit(to lane: APILane) {
        let isQueued = workers.submit(to: lane) {
            // Decided here, not on the event loop, since it may depend on the body.
            if lane == .life, router.isLong(request) {
                submit(to: .work)
            } else {
                respond(router.respond(to: request))
            }
        }
        if !isQueued { respond(.fault(APIError(503, "too many requests are waiting: try again later"))) }
    }
}
