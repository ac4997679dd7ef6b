// SPDX-License-Identifier: Apache-2.0

package import VMMAPI
package import VMMBase

internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import SystemPackage

/// An API client for control sockets. It has one thread. Calls block until the answer arrives. Thread-safe.
package final class APIClient: Sendable {
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let timeout: TimeAmount

    /// Maximum length of an answer in bytes.
    private static let longestAnswer = 64 << 20

    /// Creates a client whose requests fail after `timeout` seconds. Call `stop()` when you no longer need it.
    package init(timeout: Int64 = 10) {
        self.timeout = .seconds(timeout)
    }

    /// Stops the client's thread.
    package func stop() {
        try? group.syncShutdownGracefully()
    }

    /// Sends a request and returns the response, including error responses. Throws an error if there is no response.
    package func request(_ method: APIMethod, _ target: String, body: [UInt8] = [], socket path: String) throws(VMMError) -> APIResponse {
        guard path.utf8.count <= ControlSocket.longestPath else {
            throw .user("\(path): a socket path has at most \(ControlSocket.longestPath) bytes")
        }
        let answer = group.next().makePromise(of: APIResponse.self)
        let bootstrap = ClientBootstrap(group: group).connectTimeout(timeout).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHTTPClientHandlers()
                try channel.pipeline.syncOperations.addHandler(Answer(answer, longest: APIClient.longestAnswer))
            }
        }
        let connection = bootstrap.connect(unixDomainSocketPath: path)
        connection.cascadeFailure(to: answer)
        let limit = group.next().scheduleTask(in: timeout) { answer.fail(VMMError.host("\(path): the VM does not answer")) }
        defer { limit.cancel() }
        connection.whenSuccess { channel in
            var head = HTTPRequestHead(version: .http1_1, method: HTTPMethod(rawValue: method.rawValue), uri: target)
            head.headers = ["host": "localhost", "accept": "application/json", "connection": "close"]
            if !body.isEmpty {
                head.headers.add(name: "content-type", value: "application/json")
                head.headers.add(name: "content-length", value: "\(body.count)")
            }
            channel.write(HTTPClientRequestPart.head(head), promise: nil)
            if !body.isEmpty { channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil) }
            channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        }
        defer { connection.whenSuccess { $0.close(promise: nil) } }
        do {
            return try answer.futureResult.wait()
        } catch let error as VMMError {
            throw error
        } catch let error as IOError {
            throw .user("\(path): no VM answers there (\(Errno(rawValue: error.errnoCode)))")
        } catch {
            throw .host("\(path): the connection failed: \(error)")
        }
    }

    /// Sends a request and returns the response's body. Throws the `fault_message` of an error response.
    package func perform(_ method: APIMethod, _ target: String, body: [UInt8] = [], socket path: String) throws(VMMError) -> [UInt8] {
        let response = try request(method, target, body: body, socket: path)
        guard response.status < 400 else {
            let fault = (try? JSONText.decode([String: String].self, from: response.body))?["fault_message"]
            throw .user(fault ?? "\(path): status \(response.status)")
        }
        return response.body
    }

    private final class Answer: ChannelInboundHandler {
        typealias InboundIn = HTTPClientResponsePart

        private let promise: EventLoopPromise<APIResponse>
        private let longest: Int
        private var head: HTTPResponseHead?
        private var body: [UInt8] = []

        init(_ promise: EventLoopPromise<APIResponse>, longest: Int) {
            self.promise = promise
            self.longest = longest
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch Answer.unwrapInboundIn(data) {
            case .head(let head):
                self.head = head
            case .body(let buffer):
                guard body.count + buffer.readableBytes <= longest else {
                    promise.fail(VMMError.host("the answer is longer than \(longest) bytes"))
                    return context.close(promise: nil)
                }
                body += buffer.readableBytesView
            case .end:
                let type = head?.headers.first(name: "content-type") ?? ""
                let allow = head?.headers.first(name: "allow")
                promise.succeed(APIResponse(status: Int(head?.status.code ?? 0), contentType: type, body: body, allow: allow))
                context.close(promise: nil)
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            promise.fail(error)
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            promise.fail(VMMError.host("the VM closed the connection without an answer"))
        }
    }
}
