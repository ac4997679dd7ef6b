// SPDX-License-Identifier: Apache-2.0

package import VMMAPI
package import VMMBase

internal import Glibc
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import Synchronization

/// Limits for the API's clients.
package struct APILimits: Sendable {
    /// Maximum body length in bytes; a longer one gets 413.
    package var bodyByteCount = 64 << 10
    /// Maximum number of requests that wait for a thread, in each lane; further ones get status 503.
    package var queueLength = 128
    /// Maximum number of connections; further ones get status 503.
    package var connectionCount = 256
    /// Maximum number of connections that the server refuses with 503 at the same time. Further ones stay in the kernel's queue, or block in
    /// connect(2).
    package var refusalCount = 64
    /// Seconds for a client to read its 503.
    package var refusalTimeout: Int64 = 1
    /// Seconds for a whole request, from the connection or the previous answer, and for reading an answer.
    package var timeout: Int64 = 30

    /// Whether a body that is too long gets Firecracker's answer: status 400 and its text.
    package var hasFirecrackersRefusal = false

    /// The default limits.
    package init() {}

    /// The answer to a body that is too long.
    ///
    /// - Parameter length: its length, as far as it is known.
    func refusal(length: Int) -> APIResponse {
        guard hasFirecrackersRefusal else { return .fault(APIError(413, "the request's body is too long: at most \(bodyByteCount) bytes")) }
        let text = "Request payload with size \(length) is larger than the limit of \(bodyByteCount) allowed by server.\n"
        let body = (try? JSONText.encode(["error": text + "All previous unanswered requests will be dropped."])) ?? []
        return APIResponse(status: 400, body: body)
    }
}

/// The API server: HTTP/1.1 on a VM's control socket. `symvmm exporter` uses it, too, on a socket of its own.
///
/// An event loop thread handles the connections. Worker threads run the routes, since a route may block (a pause waits for the vCPUs): those that end
/// a VM or read its state have threads of their own (`APILane`).
package final class APIServer: Sendable {
    private let loop: any EventLoop
    private let workers: APIWorkers
    private let socket: any ListeningSocket
    private let router: APIRouter
    private let limits: APILimits
    private let channel = Mutex<(any Channel)?>(nil)

    /// Makes the threads, and takes ownership of a listening socket. `serve()` accepts the first connection.
    package init(socket: any ListeningSocket, router: APIRouter, limits: APILimits = APILimits()) throws(VMMError) {
        self.socket = socket
        self.router = router
        self.limits = limits
        let workers = try APIWorkers(limit: limits.queueLength)
        self.workers = workers
        let started = Monitor<(any EventLoop)?>(nil)
        do throws(VMMError) {
            _ = try Thread(.apiLoop) {
                MultiThreadedEventLoopGroup.withCurrentThreadAsEventLoop { loop in started.update { $0 = loop } }
            }
        } catch {
            workers.stop()
            throw error
        }
        loop = started.wait { $0 }
    }

    /// Serves from now on. Makes no thread.
    package func serve() throws(VMMError) {
        let (router, workers, limits) = (router, workers, limits)
        let connections = NIOLockedValueBox(0)
        let bootstrap = ServerBootstrap(group: loop)
            // A client may close its sending side after its request, and still gets its answer.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 4096))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let isOver = APIServer.count(channel, in: connections, limits)
                    var decoder = NIOHTTPDecoderLimitConfiguration()
                    decoder.maxHeaderFieldSize = 8 << 10
                    decoder.maxHeaderListSize = 32 << 10
                    decoder.maxHeaderFieldCount = 64
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(
                        withPipeliningAssistance: false, withErrorHandling: false, withOutboundHeaderValidation: true,
                        withEncoderConfiguration: .init(), withDecoderLimitConfiguration: decoder)
                    try channel.pipeline.syncOperations.addHandler(
                        APIConnection(router: router, workers: workers, limits: limits, isRefused: isOver))
                }
            }
        do {
            let number = socket.takeDescriptor()
            let bound = try bootstrap.withBoundSocket(number).wait()
            // NIO has called listen(2) with a backlog of 128; it ignores its backlog option for a bound socket.
            _ = listen(number, ControlSocket.backlog)
            channel.withLock { $0 = bound }
        } catch {
            throw .host("\(socket.place): \(error)")
        }
    }

    /// Counts a connection until it closes. Stops accepting connections while there are too many.
    ///
    /// - Returns: whether to refuse the connection.
    private static func count(_ channel: any Channel, in connections: NIOLockedValueBox<Int>, _ limits: APILimits) -> Bool {
        let most = limits.connectionCount + limits.refusalCount
        let number = connections.withLockedValue { number in
            number += 1
            return number
        }
        let listener = channel.parent
        if number >= most { listener?.setOption(.autoRead, value: false).whenComplete { _ in } }
        channel.closeFuture.whenComplete { _ in
            let before = connections.withLockedValue { number in
                number -= 1
                return number + 1
            }
            if before >= most { listener?.setOption(.autoRead, value: true).whenComplete { _ in } }
        }
        return number > limits.connectionCount
    }

    /// Removes the socket's file, stops accepting connections and ends the workers. Waits for running routes, so a route must not call it.
    ///
    /// - Parameter endsEventLoop: whether to end the event loop's thread, too, for which NIO makes another thread. False if the process ends next.
    package func stop(endsEventLoop: Bool = true) {
        socket.remove()
        try? channel.withLock { $0.take() }?.close().wait()
        // Stop the workers first: a route that still runs sends its response on the event loop.
        workers.stop()
        if endsEventLoop {
            try? loop.syncShutdownGracefully()
        } else {
            // The event loop has written the responses when it comes to this.
            try? loop.submit {}.wait()
        }
    }
}
