// SPDX-License-Identifier: Apache-2.0

import Glibc
import VMMBase

@testable import VMMAPI
@testable import VMMControl

extension FuzzTarget {
    static let http = FuzzTarget(
        name: "http", summary: "bytes of a client, through the socket and the whole pipeline of the server",
        dictionary: "http.dict", seeds: { HTTPFuzz.seeds }, prepare: { try HTTPFuzz().run })
}

final class HTTPFuzz {
    static let seeds: [[UInt8]] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /vm HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET /version HTTP/1.1\r\n\r\n",
        "PATCH /vm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n",
        "GET /vm/config HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "DELETE /exit-statistics HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 70000\r\n\r\n",
        "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ].map { [0] + Array($0.utf8) }
    private static let statuses = Set(["100", "200", "204", "400", "404", "405", "413", "431", "501", "503"])

    private let folder: FuzzFolder
    private let server: APIServer
    private let path: String
    private let machine: NoMachine
    private let stopper: MachineStopper
    private var runs = 0

    init() throws {
        folder = try FuzzFolder()
        let socket = try ControlSocket(name: "vm", folder: RuntimeFolder(path: folder.path + "/run"))
        path = socket.path
        machine = NoMachine()
        stopper = try MachineStopper(machine)
        let (machine, stopper) = (machine, stopper)
        let routes =
            MachineRoutes.routes(for: machine, version: "1")
            + LifeRoutes.routes(for: machine, stopper: stopper) { () throws(VMMError) in
                throw .user("no metrics")
            }
        server = try APIServer(socket: socket, router: APIRouter(routes))
        try server.serve()
    }

    func run(_ input: inout FuzzInput) throws {
        runs += 1
        // In pieces, as a slow client sends them.
        let pieces = Int(input.byte() % 4)
        var rest = input.rest()
        let client = try connect()
        for _ in 0..<pieces where rest.count > 1 {
            send(client, Array(rest.prefix(rest.count / 2)))
            rest = Array(rest.dropFirst(rest.count / 2))
        }
        send(client, rest)
        shutdown(client.rawValue, Int32(SHUT_WR))
        let answer = receive(client)
        if !answer.isEmpty { check(answer) }
        if runs % 32 == 0 {
            let other = try connect()
            send(other, Array("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".utf8))
            let text = receive(other)
            expect(text.hasPrefix("HTTP/1.1 200"), "after this client, another gets: \(text)")
        }
    }

    /// The first answer, as far as it can be told without a parser.
    private func check(_ answer: String) {
        let words = answer.prefix { $0 != "\r" && $0 != "\r\n" && $0 != "\n" }.split(separator: " ")
        expect(words.count >= 2 && words[0].hasPrefix("HTTP/1."), "no answer in HTTP: \(answer.prefix(200))")
        expect(HTTPFuzz.statuses.contains(String(words[1])), "status \(words[1])")
    }

    private func connect() throws -> OwnedFileDescriptor {
        let client = OwnedFileDescriptor(owning: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let number = client.rawValue
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard status == 0 else { throw VMMError.last("connect") }
        return client
    }

    private func send(_ client: borrowing OwnedFileDescriptor, _ bytes: [UInt8]) {
        // The server may close early.
        _ = bytes.withUnsafeBytes { Glibc.send(client.rawValue, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    /// Reads until the server closes; it must.
    private func receive(_ client: borrowing OwnedFileDescriptor) -> String {
        var time = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(client.rawValue, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = recv(client.rawValue, &chunk, chunk.count, 0)
            if count < 0, errno == EINTR { continue }
            expect(count >= 0 || errno == ECONNRESET, "the server does not close the connection: \(errno)")
            guard count > 0 else { break }
            text += chunk.prefix(count)
            expect(text.count < 8 << 20, "an answer without end")
        }
        return String(decoding: text, as: UTF8.self)
    }
}
