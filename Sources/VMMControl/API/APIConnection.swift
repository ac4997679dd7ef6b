// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import VMMAPI

/// One connection: receives a bounded request, runs its route on a worker thread, sends the response, and closes when a deadline passes.
///
/// Runs on the event loop. Does not read while a request runs; keeps pipelined requests from the last read until then, and also what follows them:
/// bytes that are no request, or the end of what the client sends. Each request gets its answer first. When it refuses a request
/// early, it sends the response at once, then reads and discards the rest of the request until the deadline, so that the client gets the response
/// and not a connection reset.
final class APIConnection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = Never
    typealias OutboundIn = Never
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case receiving
        case draining
        /// From the end of the request until NIO has sent the response.
        case answering
        case closing
    }

    /// What arrives from a client.
    private enum Input {
        case part(HTTPServerRequestPart)
        /// Bytes that are not HTTP. The rest of the stream cannot be parsed.
        case invalid
        /// The client sends nothing more: shutdown(2) or close(2).
        case end
    }

    private let router: APIRouter
    private let workers: APIWorkers
    private let limits: APILimits
    private let isRefused: Bool
    private var state = State.receiving
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    private var waiting: [Input] = []
    private var isReadWanted = false
    private var deadline: Scheduled<Void>?

    init(router: APIRouter, workers: APIWorkers, limits: APILimits, isRefused: Bool) {
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
        receive(.part(APIConnection.unwrapInboundIn(data)), context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is HTTPParserError || error is NIOHTTPDecoderError else { return context.close(promise: nil) }
        receive(.invalid, context)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { receive(.end, context) }
        context.fireUserInboundEventTriggered(event)
    }

    private func receive(_ input: Input, _ context: ChannelHandlerContext) {
        if state == .answering {
            waiting.append(input)
        } else {
            take(input, context)
        }
    }

    private func take(_ input: Input, _ context: ChannelHandlerContext) {
        switch input {
        case .part(let part): take(part, context)
        case .invalid:
            guard state == .receiving else { return context.close(promise: nil) }
            // Closes when the answer is sent: this may run inside the flush of the answer before.
            let sent = context.eventLoop.makePromise(of: Void.self)
            let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
            sent.futureResult.whenComplete { _ in bound.value.close(promise: nil) }
            refuse(context, .fault(APIError(400, "the request is not valid HTTP/1.1")), sent: sent)
        case .end: context.close(promise: nil)
        }
    }

    private func take(_ part: HTTPServerRequestPart, _ context: ChannelHandlerContext) {
        switch (part, state) {
        case (.head(let head), .receiving):
            self.head = head
            body.removeAll(keepingCapacity: body.capacity <= 4096)
            if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }), length > limits.bodyByteCount {
                refuse(context, limits.refusal(length: length))
            } else if head.version != .http1_0, head.headers.first(name: "expect")?.lowercased() == "100-continue" {
                let go = HTTPResponseHead(version: head.version, status: .continue)
                context.writeAndFlush(APIConnection.wrapOutboundOut(.head(go)), promise: nil)
            }
        case (.body(let buffer), .receiving):
            guard body.count + buffer.readableBytes <= limits.bodyByteCount else {
                return refuse(context, limits.refusal(length: body.count + buffer.readableBytes))
            }
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
        // HEAD is a GET whose answer has no body.
        guard let method = head.method == .HEAD ? .get : APIMethod(rawValue: head.method.rawValue) else {
            let request = APIRequest(method: .get, target: head.uri)
            let allowed = head.method == .OPTIONS ? router.allowedMethods(of: request) : []
            guard allowed.isEmpty else { return send(context, .options(allowed), head) }
            return send(context, router.refuse(request, method: head.method.rawValue), head)
        }
        let accept = head.headers["accept"]
        let request = APIRequest(
            method: method, target: head.uri, body: body, accept: accept.isEmpty ? nil : accept.joined(separator: ","))
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let finish: @Sendable (APIResponse) -> Void = { response in
            bound.value.0.finish(bound.value.1, response, head)
        }
        let answer = APIAnswer(request: request, router: router, workers: workers) { [loop = context.eventLoop] response in
            loop.execute { finish(response) }
        }
        answer.submit(to: router.lane(of: request))
    }

    private func finish(_ context: ChannelHandlerContext, _ response: APIResponse, _ head: HTTPRequestHead) {
        if state == .answering { send(context, response, head) }
    }

    private func refuse(_ context: ChannelHandlerContext, _ error: APIError) {
        refuse(context, .fault(error))
    }

    /// Sends the response before the request ends, then drains the request.
    private func refuse(_ context: ChannelHandlerContext, _ response: APIResponse, sent: EventLoopPromise<Void>? = nil) {
        let version = head?.version ?? .http1_1
        state = .draining
        body = []
        write(context, response, version: version, keepAlive: false, hasBody: head?.method != .HEAD, promise: sent)
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
        write(context, response, version: head.version, keepAlive: keepAlive, hasBody: head.method != .HEAD, promise: promise)
    }

    /// Called when NIO has sent the response. Handles pipelined requests that were read before, then reads again.
    private func receiveAgain(_ context: ChannelHandlerContext) {
        guard state == .answering else { return }
        state = .receiving
        setDeadline(context, seconds: limits.timeout)
        let inputs = waiting
        waiting = []
        for (index, input) in inputs.enumerated() {
            if state == .answering {
                waiting = Array(inputs[index...])
                return
            }
            take(input, context)
        }
        if isReadWanted, state != .answering {
            isReadWanted = false
            context.read()
        }
    }

    private func write(
        _ context: ChannelHandlerContext, _ response: APIResponse, version: HTTPVersion, keepAlive: Bool, hasBody: Bool,
        promise: EventLoopPromise<Void>?
    ) {
        var headers = HTTPHeaders()
        if response.status != 204 {
            headers.add(name: "content-length", value: "\(response.body.count)")
            headers.add(name: "content-type", value: response.contentType)
        }
        if let allow = response.allow { headers.add(name: "allow", value: allow) }
        headers.add(name: "server", value: "symvmm")
        if !keepAlive {
            headers.add(name: "connection", value: "close")
        } else if version == .http1_0 {
            headers.add(name: "connection", value: "keep-alive")
        }
        let head = HTTPResponseHead(version: version, status: HTTPResponseStatus(statusCode: response.status), headers: headers)
        context.write(APIConnection.wrapOutboundOut(.head(head)), promise: nil)
        if hasBody, !response.body.isEmpty {
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
