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

    /// Maximum length of an answer in bytes, unless the caller sets another one.
    private static let longestAnswer = 64 << 20

    /// Why there is no response.
    package enum Failure: Error, Sendable, Equatable {
        /// The time is over.
        case timeout
        /// The response is longer than the maximum, in bytes.
        case tooLong(Int)
        /// The VM closed the connection without a response.
        case closed
        /// The connection failed with this error number.
        case connection(Int32)
        /// Something that is no HTTP arrived.
        case protocolError(String)

        /// The error for a user.
        fileprivate func error(at path: String) -> VMMError {
            switch self {
            case .timeout: .host("\(path): the VM does not answer")
            case .tooLong(let most): .host("the answer is longer than \(most) bytes")
            case .closed: .host("the VM closed the connection without an answer")
            case .connection(let number): .user("\(path): no VM answers there (\(Errno(rawValue: number)))")
            case .protocolError(let text): .host("\(path): the connection failed: \(text)")
            }
        }
    }

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
        do throws(VMMError) {
            return try exchange(method, target, body: body, socket: path)
        } catch {
            if ControlSocket.isLeftBehind(path) { throw RunningMachines.killedError(path) }
            throw error
        }
    }

    private func exchange(_ method: APIMethod, _ target: String, body: [UInt8], socket path: String) throws(VMMError) -> APIResponse {
        guard path.utf8.count <= ControlSocket.longestPath else {
            throw .user("\(path): a socket path has at most \(ControlSocket.longestPath) bytes")
        }
        let answer = send(method, target, body: body, accept: "application/json", socket: path, longest: APIClient.longestAnswer)
        switch APIClient.wait(for: answer) {
        case .success(let response): return response
        case .failure(let failure): throw failure.error(at: path)
        }
    }

    /// Sends the same GET to several VMs at the same time. Waits for all of them together at most for the client's timeout.
    ///
    /// - Parameters:
    ///   - accept: the header `Accept`.
    ///   - sockets: paths of the control sockets.
    ///   - longest: the maximum length of one response's body in bytes.
    package func get(_ target: String, accept: String, sockets: [String], longest: Int) -> [Result<APIResponse, Failure>] {
        let answers = sockets.map { send(.get, target, body: [], accept: accept, socket: $0, longest: longest) }
        return answers.map { APIClient.wait(for: $0) }
    }

    private static func wait(for answer: EventLoopFuture<APIResponse>) -> Result<APIResponse, Failure> {
        do {
            return .success(try answer.wait())
        } catch let failure as Failure {
            return .failure(failure)
        } catch let error as IOError {
            return .failure(.connection(error.errnoCode))
        } catch {
            return .failure(.protocolError("\(error)"))
        }
    }

    /// Sends a request without waiting for its response, which arrives or fails within the timeout.
    private func send(
        _ method: APIMethod, _ target: String, body: [UInt8], accept: String, socket path: String, longest: Int
    ) -> EventLoopFuture<APIResponse> {
        let answer = group.next().makePromise(of: APIResponse.self)
        let bootstrap = ClientBootstrap(group: group).connectTimeout(timeout).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHTTPClientHandlers()
                try channel.pipeline.syncOperations.addHandler(Answer(answer, longest: longest))
            }
        }
        let connection = bootstrap.connect(unixDomainSocketPath: path)
        connection.cascadeFailure(to: answer)
        let limit = group.next().scheduleTask(in: timeout) { answer.fail(Failure.timeout) }
        connection.whenSuccess { channel in
            var head = HTTPRequestHead(version: .http1_1, method: HTTPMethod(rawValue: method.rawValue), uri: target)
            head.headers = ["host": "localhost", "accept": accept, "connection": "close"]
            if !body.isEmpty {
                head.headers.add(name: "content-type", value: "application/json")
                head.headers.add(name: "content-length", value: "\(body.count)")
            }
            channel.write(HTTPClientRequestPart.head(head), promise: nil)
            if !body.isEmpty { channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil) }
            channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        }
        answer.futureResult.whenComplete { _ in
            limit.cancel()
            connection.whenSuccess { $0.close(promise: nil) }
        }
        return answer.futureResult
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
                    promise.fail(Failure.tooLong(longest))
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
            promise.fail(Failure.closed)
        }
    }
}
