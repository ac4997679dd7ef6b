// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import VMMAPI
@testable import VMMBase
@testable import VMMClient
@testable import VMMControl
@testable import VMMModel

/// A server on a real Unix socket, for clients that may send any bytes.
final class ServerUnderTest: Sendable {
    let folder: TemporaryFolder
    let path: String
    let machine = RecordingMachine()
    private let server: APIServer

    init(limits: APILimits = APILimits(), routes: [APIRoute] = []) throws {
        folder = try TemporaryFolder()
        let socket = try ControlSocket(name: "vm", folder: RuntimeFolder(path: folder.path + "/run"))
        path = socket.path
        server = try APIServer(
            socket: socket, router: APIRouter(routes + machine.routes), limits: limits)
        try server.serve()
    }

    deinit {
        server.stop()
    }

    /// Sends bytes and reads until the server closes, or for at most `seconds`.
    func exchange(_ bytes: [UInt8], seconds: Int = 10) -> String {
        RawClient(path)?.exchange(bytes, seconds: seconds) ?? "no connection"
    }
}

/// A connection without any protocol.
final class RawClient: Sendable {
    let number: Int32

    init?(_ path: String) {
        number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: Array(path.utf8)) }
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard status == 0 else { return nil }
    }

    deinit {
        close(number)
    }

    func send(_ bytes: [UInt8]) -> Int {
        unsafe bytes.withUnsafeBytes { unsafe Glibc.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    func receive(seconds: Int, until end: String? = nil) -> String {
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        _ = unsafe setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = unsafe recv(number, &chunk, chunk.count, 0)
            guard count > 0 else { break }
            text += chunk.prefix(count)
            if let end, String(decoding: text, as: UTF8.self).contains(end) { break }
        }
        return String(decoding: text, as: UTF8.self)
    }

    func exchange(_ bytes: [UInt8], seconds: Int) -> String {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = send(Array(rest.prefix(1 << 16)))
            guard count > 0 else { break }
            rest = rest.dropFirst(count)
        }
        return receive(seconds: seconds)
    }
}

@Suite(.serialized, .timeLimit(.minutes(1))) struct ControlServerTests {
    private let get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    @Test func ourClientIsAnswered() throws {
        let server = try ServerUnderTest()
        let client = APIClient()
        defer { client.stop() }
        #expect(try client.request(.get, "/", socket: server.path).status == 200)
        let body = Array(#"{"state": "Paused"}"#.utf8)
        #expect(try client.request(.patch, "/vm", body: body, socket: server.path).status == 204)
        #expect(server.machine.state == .paused)
        let error = #expect(throws: VMMError.self) { try client.perform(.get, "/nothing", socket: server.path) }
        #expect(error?.description == "no resource /nothing")
        let missing = #expect(throws: VMMError.self) { try client.perform(.get, "/", socket: server.folder.path + "/none.sock") }
        #expect(missing?.description.contains("no VM answers there") == true)
    }

    @Test func aConnectionServesManyRequestsInOrder() throws {
        let server = try ServerUnderTest()
        let keep = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
        let answer = server.exchange(Array((String(repeating: keep, count: 200) + get).utf8))
        #expect(answer.components(of: "HTTP/1.1 200 OK") == 201)
        #expect(answer.hasSuffix("}"))
        #expect(answer.components(of: "app_name") == 1)
    }

    @Test(arguments: [
        "hello\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n",
        "PUT /actions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzzzz",
        "GET / HTTP/1.1\r\nbroken header\r\n\r\n",
    ])
    func malformedRequestsGet400(text: String) throws {
        let server = try ServerUnderTest()
        let answer = server.exchange(Array(text.utf8), seconds: 5)
        #expect(answer.hasPrefix("HTTP/1.1 400"), "\(answer)")
        #expect(answer.contains("fault_message"))
        #expect(server.exchange(Array(get.utf8)).hasPrefix("HTTP/1.1 200"))
    }

    @Test func headersAreBounded() throws {
        let server = try ServerUnderTest()
        let many = (0..<1000).map { "X-\($0): y\r\n" }.joined()
        #expect(!server.exchange(Array("GET / HTTP/1.1\r\n\(many)\r\n".utf8)).hasPrefix("HTTP/1.1 200"))
        let long = "GET / HTTP/1.1\r\nX: " + String(repeating: "y", count: 1 << 20) + "\r\n\r\n"
        #expect(!server.exchange(Array(long.utf8)).hasPrefix("HTTP/1.1 200"))
        #expect(server.exchange(Array(get.utf8)).hasPrefix("HTTP/1.1 200"))
    }

    @Test func tenMegabytesAreRefusedAndTheClientHearsIt() throws {
        let server = try ServerUnderTest()
        let body = [UInt8](repeating: UInt8(ascii: "x"), count: 10 << 20)
        let announced = "PUT /actions HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.count)\r\n\r\n"
        let answer = server.exchange(Array(announced.utf8) + body)
        #expect(answer.hasPrefix("HTTP/1.1 413"))
        #expect(answer.contains("at most 65536 bytes"))
        let chunk = Array("100000\r\n".utf8) + body.prefix(1 << 20) + Array("\r\n".utf8)
        let chunked = Array("PUT /actions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".utf8) + chunk + Array("0\r\n\r\n".utf8)
        #expect(server.exchange(chunked).hasPrefix("HTTP/1.1 413"))
        #expect(server.exchange(Array(get.utf8)).hasPrefix("HTTP/1.1 200"))
    }

    @Test func aHundredClientsAtOnceAreAnswered() throws {
        let server = try ServerUnderTest()
        let good = Mutex(0)
        let clients = try (0..<100).map { _ in try #require(RawClient(server.path)) }
        let threads = try clients.map { client in
            try Thread(.command, "client") {
                if client.exchange(Array(self.get.utf8), seconds: 20).hasPrefix("HTTP/1.1 200") { good.withLock { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(good.withLock { $0 } == 100)
    }

    @Test func connectionsAreBounded() throws {
        var limits = APILimits()
        limits.connectionCount = 3
        let server = try ServerUnderTest(limits: limits)
        // An answer to each proves that the server has accepted all three.
        let held = try (0..<3).map { _ in
            let client = try #require(RawClient(server.path))
            _ = client.send(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
            #expect(client.receive(seconds: 5, until: "app_name").hasPrefix("HTTP/1.1 200"))
            return client
        }
        let refused = server.exchange(Array(get.utf8))
        #expect(refused.hasPrefix("HTTP/1.1 503"), "\(refused)")
        #expect(held.count == 3)
    }

    @Test func moreClientsThanItTakesWaitAndAreAnswered() throws {
        var limits = APILimits()
        limits.connectionCount = 2
        limits.refusalCount = 3
        limits.timeout = 1
        let server = try ServerUnderTest(limits: limits)
        // Idle connections use all places until their deadline. The others get 503, or wait for it.
        let idle = try (0..<2).map { _ in try #require(RawClient(server.path)) }
        let answers = Mutex<[String]>([])
        let threads = try (0..<40).map { _ in
            try Thread(.command, "client") {
                let answer = server.exchange(Array(self.get.utf8), seconds: 20)
                answers.withLock { $0.append(String(answer.prefix(12))) }
            }
        }
        for thread in threads { thread.join() }
        let words = answers.withLock { $0 }
        #expect(words.count == 40)
        #expect(words.allSatisfy { $0 == "HTTP/1.1 200" || $0 == "HTTP/1.1 503" }, "\(words)")
        #expect(idle.allSatisfy { $0.receive(seconds: 5) == "" })
        #expect(server.exchange(Array(get.utf8)).hasPrefix("HTTP/1.1 200"))
    }

    @Test func aClientThatDawdlesOrNeverReadsIsDropped() throws {
        var limits = APILimits()
        limits.timeout = 1
        let big = APIRoute(.get, "/big") { _ throws(APIError) in APIResponse(body: [UInt8](repeating: 32, count: 8 << 20)) }
        let server = try ServerUnderTest(limits: limits, routes: [big])
        let slow = try #require(RawClient(server.path))
        _ = slow.send(Array("GET / HT".utf8))
        let idle = try #require(RawClient(server.path))
        let deaf = try #require(RawClient(server.path))
        _ = deaf.send(Array("GET /big HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
        #expect(slow.receive(seconds: 5) == "")
        #expect(idle.receive(seconds: 5) == "")
        usleep(1_500_000)
        // The client gets the bytes that the kernel has buffered, then the end of the stream, and not the whole answer.
        #expect(deaf.receive(seconds: 5).utf8.count < 4 << 20)
        #expect(server.exchange(Array(get.utf8)).hasPrefix("HTTP/1.1 200"))
    }

    @Test func aBlockedRouteDoesNotBlockTheNetwork() throws {
        let gate = Mutex(false)
        let slow = APIRoute(.get, "/slow") { _ throws(APIError) in
            while !gate.withLock({ $0 }) { usleep(1000) }
            return .noContent
        }
        let server = try ServerUnderTest(routes: [slow])
        let waiting = try #require(RawClient(server.path))
        _ = waiting.send(Array("GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8))
        // The event loop answers this request without the worker, which is blocked.
        #expect(server.exchange(Array("nonsense\r\n\r\n".utf8)).hasPrefix("HTTP/1.1 400"))
        gate.withLock { $0 = true }
        #expect(waiting.receive(seconds: 5).hasPrefix("HTTP/1.1 204"))
    }

    @Test func lifeAndDeathDoNotWaitForASlowRequest() throws {
        let gate = Mutex(false)
        let slow = APIRoute(.put, "/slow") { _ throws(APIError) in
            while !gate.withLock({ $0 }) { usleep(1000) }
            return .noContent
        }
        let server = try ServerUnderTest(routes: [slow])
        let request = "PUT /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        let waiting = try (0..<3).map { _ in try #require(RawClient(server.path)) }
        for client in waiting { _ = client.send(Array(request.utf8)) }
        func put(_ method: String, _ path: String, _ body: String) -> String {
            server.exchange(
                Array(
                    "\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8),
                seconds: 20)
        }
        #expect(put("PATCH", "/vm", #"{"state": "Paused"}"#).hasPrefix("HTTP/1.1 204"))
        #expect(put("PATCH", "/vm", #"{"state": "Resumed"}"#).hasPrefix("HTTP/1.1 204"))
        #expect(put("GET", "/exit-statistics", "").hasPrefix("HTTP/1.1 200"))
        #expect(put("GET", "/metrics/openmetrics", "").hasPrefix("HTTP/1.1 200"))
        #expect(put("PUT", "/actions", #"{"action_type": "Kill"}"#).hasPrefix("HTTP/1.1 204"))
        #expect(server.machine.calls.withLock { [$0.pauses, $0.resumes, $0.kills] } == [1, 1, 1])
        gate.withLock { $0 = true }
        #expect(waiting.allSatisfy { $0.receive(seconds: 20).hasPrefix("HTTP/1.1 204") })
    }

    @Test func aFullQueueIsRefusedWith503() throws {
        let gate = Mutex(false)
        let entered = Mutex(0)
        let slow = APIRoute(.put, "/slow") { _ throws(APIError) in
            entered.withLock { $0 += 1 }
            while !gate.withLock({ $0 }) { usleep(1000) }
            return .noContent
        }
        var limits = APILimits()
        limits.queueLength = 2
        let server = try ServerUnderTest(limits: limits, routes: [slow])
        let request = Array("PUT /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8)
        let running = try #require(RawClient(server.path))
        _ = running.send(request)
        while entered.withLock({ $0 }) == 0 { usleep(1000) }
        // Two wait, the third is refused. The event loop accepts them in any order.
        let others = try (0..<3).map { _ in try #require(RawClient(server.path)) }
        for client in others { _ = client.send(request) }
        var refused: RawClient?
        for _ in 0..<30 where refused == nil { refused = others.first { $0.receive(seconds: 1).hasPrefix("HTTP/1.1 503") } }
        #expect(refused != nil)
        gate.withLock { $0 = true }
        #expect(others.filter { $0 !== refused }.allSatisfy { $0.receive(seconds: 20).hasPrefix("HTTP/1.1 204") })
        #expect(running.receive(seconds: 20).hasPrefix("HTTP/1.1 204"))
    }

    @Test func anActionThatTakesLongUsesTheOtherLane() throws {
        let routes = RecordingMachine().routes
        let router = APIRouter(routes)
        func request(_ text: String) -> APIRequest { APIRequest(method: .put, target: "/actions", body: Array(text.utf8)) }
        #expect(router.lane(of: request("")) == .life)
        #expect(router.isLong(request(#"{"action_type": "InstanceStart"}"#)))
        #expect(router.isLong(request(#"{"action_type": "Instance\u0053tart"}"#)))
        #expect(router.isLong(request(#"{"action_type": "FlushMetrics"}"#)))
        #expect(!router.isLong(request(#"{"action_type": "Kill"}"#)))
        #expect(!router.isLong(request(#"{"action_type": "Kill", "x": "InstanceStart"}"#)))
        #expect(!router.isLong(request("nonsense")))
    }

    @Test func nothingIsLeftAfterStop() throws {
        let home = try TemporaryFolder()
        let socket = try ControlSocket(name: "vm", folder: RuntimeFolder(path: home.path + "/run"))
        let server = try APIServer(socket: socket, router: APIRouter([]))
        try server.serve()
        #expect(ControlSocket.isAlive(socket.path))
        server.stop()
        #expect(unsafe access(socket.path, F_OK) != 0)
    }
}

extension String {
    fileprivate func components(of part: String) -> Int {
        ranges(of: part).count
    }
}
