// SPDX-License-Identifier: Apache-2.0

package import VMMAPI
package import VMMBase

internal import Glibc
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// Bounds that keep a client from costing more than it may.
package struct APILimits: Sendable {
    /// Longest body in bytes; more is answered with 413.
    package var bodyByteCount = 64 << 10
    /// Most connections at a time; more are answered with 503.
    package var connectionCount = 256
    /// Most connections that are just being answered with 503; more wait until the kernel's queue is full, and then in connect(2).
    package var refusalCount = 64
    /// Seconds that a client has to read its 503.
    package var refusalTimeout: Int64 = 1
    /// Seconds that a client has for a whole request, counted from the connection or the answer before, and for reading an answer.
    package var timeout: Int64 = 30

    /// The usual bounds.
    package init() {}
}

/// The control plane's server: HTTP/1.1 on a Unix socket.
///
/// One event loop thread does all that concerns the network; one worker thread runs the routes, one request after the other, because a route may
/// block (a pause waits for the vCPUs).
package final class APIServer: Sendable {
    private let group: MultiThreadedEventLoopGroup
    private let workers: NIOThreadPool
    private let channel: any Channel
    private let socket: ControlSocket

    /// Starts to serve on a listening socket, which the server then owns.
    package init(socket: ControlSocket, router: APIRouter, limits: APILimits = APILimits()) throws(ControlError) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let workers = NIOThreadPool(numberOfThreads: 1)
        workers.start()
        let connections = NIOLockedValueBox(0)
        let bootstrap = ServerBootstrap(group: group)
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
            channel = try bootstrap.withBoundSocket(number).wait()
            // NIO has listened again, with a queue of 128, whatever the option says.
            _ = listen(number, ControlSocket.backlog)
        } catch {
            try? group.syncShutdownGracefully()
            try? workers.syncShutdownGracefully()
            throw .host("\(socket.path): \(error)")
        }
        self.group = group
        self.workers = workers
        self.socket = socket
    }

    /// Counts a connection until it closes, and stops to accept others while there are too many.
    ///
    /// - Returns: whether it is to be refused.
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

    /// Ends the server: no request is accepted any more, the socket's file is removed, the threads end. Not from a route.
    package func stop() {
        socket.remove()
        try? channel.close().wait()
        // First the routes that still run: they answer on the event loop.
        try? workers.syncShutdownGracefully()
        try? group.syncShutdownGracefully()
    }
}
