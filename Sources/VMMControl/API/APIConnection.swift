// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import VMMAPI

/// One connection: collects a bounded request, has it answered on the worker thread, writes the answer, and closes on whatever takes too long.
///
/// Lives on the event loop. While a request is answered nothing more is read, and what had been read already (pipelined requests: at most one
/// read's worth) waits. A request that is refused before its end is answered at once, and what still comes is read and thrown away, within the
/// deadline, so that the client gets the answer and not a reset.
final class APIConnection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = Never
    typealias OutboundIn = Never
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case receiving
        case draining
        /// From a request's end until its answer has left.
        case answering
        case closing
    }

    private let router: APIRouter
    private let workers: NIOThreadPool
    private let limits: APILimits
    private let isRefused: Bool
    private var state = State.receiving
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    private var waiting: [HTTPServerRequestPart] = []
    private var isReadWanted = false
    private var deadline: Scheduled<Void>?

    init(router: APIRouter, workers: NIOThreadPool, limits: APILimits, isRefused: Bool) {
        self.router = router
        self.workers = workers
        self.limits = limits
        self.isRefused = isRefused
    }

    func channelActive(context: ChannelHandlerContext) {
        setDeadline(context, seconds: isRefused ? limits.refusalTimeout : limits.timeout)
        if isRefused { refuse(context, APIError(503, "too many connections: at most \(limits.connectionCount)")) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        deadline = nil
        state = .closing
    }

    func read(context: ChannelHandlerContext) {
        if state == .answering {
            isReadWanted = true
        } else {
            context.read()
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = APIConnection.unwrapInboundIn(data)
        if state == .answering {
            waiting.append(part)
        } else {
            take(part, context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if state == .receiving, error is HTTPParserError || error is NIOHTTPDecoderError {
            refuse(context, APIError(400, "the request is not valid HTTP/1.1"))
        }
        // Nothing after the fault can be understood.
        context.close(promise: nil)
    }

    private func take(_ part: HTTPServerRequestPart, _ context: ChannelHandlerContext) {
        switch (part, state) {
        case (.head(let head), .receiving):
            self.head = head
            body.removeAll(keepingCapacity: body.capacity <= 4096)
            if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }), length > limits.bodyByteCount {
                refuseBody(context)
            }
        case (.body(let buffer), .receiving):
            guard body.count + buffer.readableBytes <= limits.bodyByteCount else { return refuseBody(context) }
            body += buffer.readableBytesView
        case (.end, .receiving):
            answer(context)
        case (.end, .draining):
            context.close(promise: nil)
        default:
            break
        }
    }

    private func answer(_ context: ChannelHandlerContext) {
        state = .answering
        deadline?.cancel()
        guard let head else { return context.close(promise: nil) }
        guard let method = APIMethod(rawValue: head.method.rawValue) else {
            let error = APIError(405, "the method \(head.method.rawValue) is not known")
            return send(context, .fault(error, allow: APIMethod.allCases.map(\.rawValue).joined(separator: ", ")), head)
        }
        let request = APIRequest(method: method, target: head.uri, body: body)
        let router = router
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        workers.runIfActive(eventLoop: context.eventLoop) { router.respond(to: request) }.whenComplete { result in
            let (connection, context) = bound.value
            guard connection.state == .answering else { return }
            switch result {
            case .success(let response): connection.send(context, response, head)
            case .failure: context.close(promise: nil)
            }
        }
    }

    private func refuseBody(_ context: ChannelHandlerContext) {
        refuse(context, APIError(413, "the request's body is too long: at most \(limits.bodyByteCount) bytes"))
    }

    /// Answers before the request's end, then drains.
    private func refuse(_ context: ChannelHandlerContext, _ error: APIError) {
        let version = head?.version ?? .http1_1
        state = .draining
        body = []
        write(context, .fault(error), version: version, keepAlive: false, promise: nil)
    }

    private func send(_ context: ChannelHandlerContext, _ response: APIResponse, _ head: HTTPRequestHead) {
        let keepAlive = head.isKeepAlive
        self.head = nil
        setDeadline(context, seconds: limits.timeout)
        let promise = context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        promise.futureResult.whenComplete { _ in
            let (connection, context) = bound.value
            if keepAlive { connection.receiveAgain(context) } else { context.close(promise: nil) }
        }
        write(context, response, version: head.version, keepAlive: keepAlive, promise: promise)
    }

    /// The answer has left: the next request may come, or has come already.
    private func receiveAgain(_ context: ChannelHandlerContext) {
        guard state == .answering else { return }
        state = .receiving
        setDeadline(context, seconds: limits.timeout)
        let parts = waiting
        waiting = []
        for (index, part) in parts.enumerated() {
            if state == .answering {
                waiting = Array(parts[index...])
                return
            }
            take(part, context)
        }
        if isReadWanted, state != .answering {
            isReadWanted = false
            context.read()
        }
    }

    private func write(
        _ context: ChannelHandlerContext, _ response: APIResponse, version: HTTPVersion, keepAlive: Bool, promise: EventLoopPromise<Void>?
    ) {
        var headers = HTTPHeaders()
        if response.status != 204 {
            headers.add(name: "content-length", value: "\(response.body.count)")
            headers.add(name: "content-type", value: response.contentType)
        }
        if let allow = response.allow { headers.add(name: "allow", value: allow) }
        headers.add(name: "server", value: "symvmm")
        if !keepAlive { headers.add(name: "connection", value: "close") }
        let head = HTTPResponseHead(version: version, status: HTTPResponseStatus(statusCode: response.status), headers: headers)
        context.write(APIConnection.wrapOutboundOut(.head(head)), promise: nil)
        if !response.body.isEmpty {
            context.write(
                APIConnection.wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: response.body)))), promise: nil)
        }
        context.writeAndFlush(APIConnection.wrapOutboundOut(.end(nil)), promise: promise)
    }

    private func setDeadline(_ context: ChannelHandlerContext, seconds: Int64) {
        deadline?.cancel()
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        deadline = context.eventLoop.scheduleTask(in: .seconds(seconds)) { bound.value.close(promise: nil) }
    }
}
