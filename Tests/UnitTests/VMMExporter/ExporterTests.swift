// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import VMMAPI
@testable import VMMBase
@testable import VMMClient
@testable import VMMControl
@testable import VMMExporter

/// Counts collections.
private final class Calls: Sendable {
    let count = Mutex(0)

    func exporter(freshness: UInt64) -> Exporter {
        Exporter(freshness: freshness) {
            self.count.withLock { $0 += 1 }
            return ([], 0)
        }
    }
}

@Suite(.timeLimit(.minutes(1))) struct ExporterTests {
    private static let good = MetricsCollector.Answer.text(Array("# TYPE symvmm_vcpus gauge\nsymvmm_vcpus{vm=\"x\"} 2\n# EOF\n".utf8))

    private func answer(_ exporter: Exporter, _ target: String = "/metrics", accept: String? = nil) -> (
        response: APIResponse, lines: [String]
    ) {
        let response = APIRouter(exporter.routes).respond(to: APIRequest(method: .get, target: target, accept: accept))
        return (response, String(decoding: response.body, as: UTF8.self).split(separator: "\n").map(String.init))
    }

    @Test func machinesAreServedOrCountedByReason() {
        let found: [(String, MetricsCollector.Answer)] = [
            ("a", ExporterTests.good), ("a", ExporterTests.good), ("b", ExporterTests.good), ("c", .stopped), ("d", .silent),
            ("e", .refused),
            ("f", .tooLong), ("g", .text(Array("hello\n".utf8))), ("h\n", ExporterTests.good), ("", ExporterTests.good),
            (String(repeating: "i", count: 65), ExporterTests.good),
        ]
        let exporter = Exporter { (found.map { MetricsCollector.Found(name: $0.0, answer: $0.1) }, 3) }
        let lines = answer(exporter).lines
        #expect(lines.filter { $0.hasPrefix("symvmm_vcpus{") } == [#"symvmm_vcpus{vm="a"} 2"#, #"symvmm_vcpus{vm="b"} 2"#])
        let up = [("a", 1), ("b", 1), ("c", 0), ("d", 0), ("e", 0), ("f", 0), ("g", 0)]
        #expect(lines.filter { $0.hasPrefix("symvmm_exporter_vm_up{") } == up.map { "symvmm_exporter_vm_up{vm=\"\($0.0)\"} \($0.1)" })
        let counts = [("stopped", 1), ("no_answer", 1), ("invalid", 5), ("too_long", 1), ("same_name", 1), ("too_many", 3)]
        #expect(
            lines.filter { $0.hasPrefix("symvmm_exporter_left_out_total{") }
                == counts.map { "symvmm_exporter_left_out_total{reason=\"\($0.0)\"} \($0.1)" })
    }

    @Test func requestsWithinASecondGetTheSameSamples() {
        let calls = Calls()
        let fresh = calls.exporter(freshness: 60_000_000_000)
        for _ in 0..<5 { #expect(answer(fresh).lines.contains("symvmm_exporter_collections_total 1")) }
        #expect(calls.count.withLock { $0 } == 1)
        let always = calls.exporter(freshness: 0)
        for number in 1...3 { #expect(answer(always).lines.contains("symvmm_exporter_collections_total \(number)")) }
    }

    @Test func theFormIsThatOfAccept() {
        let exporter = Exporter { ([], 0) }
        #expect(answer(exporter).response.contentType == "text/plain; version=0.0.4; charset=utf-8")
        #expect(answer(exporter, "/", accept: "*/*").response.contentType == "text/plain; version=0.0.4; charset=utf-8")
        let (response, lines) = answer(exporter, "/", accept: Exporter.accept)
        #expect(response.contentType == "application/openmetrics-text; version=1.0.0; charset=utf-8")
        #expect(lines.last == "# EOF")
    }

    @Test func aFailedCollectionIsAnError() {
        let exporter = Exporter { () throws(VMMError) in throw .host("no folder") }
        let (response, lines) = answer(exporter)
        #expect(response.status == 500)
        #expect(lines == [#"{"fault_message":"no folder"}"#])
    }

    @Test(arguments: [
        ("127.0.0.1:9464", ListenAddress.ipv4(address: 0x7f00_0001, port: 9464)), ("localhost:0", .ipv4(address: 0x7f00_0001, port: 0)),
        ("0.0.0.0:65535", .ipv4(address: 0, port: 65535)), ("[::1]:80", .ipv6(address: [UInt8](repeating: 0, count: 15) + [1], port: 80)),
        ("unix:/a:1", .unix(path: "/a:1")),
    ])
    func addresses(text: String, address: ListenAddress) throws {
        #expect(try ListenAddress(text, option: "--listen") == address)
    }

    @Test(arguments: [
        "", ":", "9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:a", "127.0.0.1: 1",
        ":9464",
        "127.1:1", "300.0.0.1:1", "host:1", "::1:1", "[::1:1", "[127.0.0.1]:1", "[]:1", "unix:", "127.0.0.1:\u{661}", "[::1]",
    ])
    func badAddresses(text: String) {
        let error = #expect(throws: VMMError.self) { try ListenAddress(text, option: "--listen") }
        #expect(error?.kind == .user)
        #expect(error?.description.hasPrefix("--listen: ") == true)
    }

    @Test func aPortThatIsInUseIsTheUsersError() throws {
        let first = try ListenAddress.ipv4(address: 0x7f00_0001, port: 0).listen(option: "--listen")
        defer { first.remove() }
        let place = first.place.dropFirst("http://".count)
        let error = #expect(throws: VMMError.self) { try ListenAddress(String(place), option: "--listen").listen(option: "--listen") }
        #expect(error?.kind == .user)
        #expect(error?.description == "--listen: Address already in use: another process listens there: choose another port")
    }

    /// A server on TCP, and VMs that answer, hang, say too much or are gone.
    @Test func theCollectorAsksAllAtOnceAndWaitsForNone() throws {
        let folder = try TemporaryFolder()
        func server(_ name: String, _ body: @escaping @Sendable () -> APIResponse) throws -> APIServer {
            let socket = try ControlSocket(unnamed: "\(folder.path)/\(name).sock")
            let server = try APIServer(socket: socket, router: APIRouter([APIRoute(.get, "/x") { _ throws(APIError) in body() }]))
            try server.serve()
            return server
        }
        let isEnding = Mutex(false)
        let servers = [
            try server("well") { APIResponse(contentType: "text/plain", body: [1, 2]) },
            try server("long") { APIResponse(contentType: "text/plain", body: [UInt8](repeating: 0, count: 5 << 20)) },
            try server("hung") {
                while !isEnding.withLock({ $0 }) { usleep(1000) }
                return .noContent
            }, try server("wrong") { APIResponse(status: 404, body: []) },
        ]
        let dead = try ControlSocket(unnamed: "\(folder.path)/dead.sock")
        close(dead.takeDescriptor())
        _ = unsafe creat("\(folder.path)/file.sock", 0o600)
        let collector = MetricsCollector(patterns: ["\(folder.path)/*.sock"], timeout: 1)
        let start = TickClock.monotonicNanoseconds()
        let (machines, surplus) = try collector.collect("/x", accept: "*/*")
        #expect(TickClock.monotonicNanoseconds() - start < 20_000_000_000)
        #expect(surplus == 0)
        let mine = machines.filter { ["well", "long", "hung", "wrong", "dead", "file"].contains($0.name) }
        #expect(mine.map(\.name) == ["hung", "long", "well", "wrong"])
        #expect(mine.map(\.answer) == [.silent, .tooLong, .text([1, 2]), .refused])
        isEnding.withLock { $0 = true }
        for server in servers { server.stop() }
        collector.stop()
    }
}
