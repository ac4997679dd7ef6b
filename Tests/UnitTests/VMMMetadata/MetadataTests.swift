// SPDX-License-Identifier: Apache-2.0

import Testing
import VMMBase

@testable import VMMMetadata

@Suite struct MetadataTests {
    private static let data = #"{"latest": {"meta-data": {"ami-id": "a/b", "list": ["x", {"y": 1}], "n": 5, "empty": {}}}, "a/b": "slash"}"#

    private func store(_ text: String = data, limit: Int = 51_200) throws -> MetadataStore {
        let store = MetadataStore(byteLimit: limit)
        try store.put(Array(text.utf8))
        return store
    }

    private func get(_ path: String, _ fields: String = "") -> String {
        "GET \(path) HTTP/1.1\r\nHost: 169.254.169.254\r\n\(fields)\r\n"
    }

    private func body(_ answer: String) -> String {
        answer.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false).last.map(String.init) ?? ""
    }

    // MARK: The store

    @Test(arguments: [
        ("/latest/meta-data/ami-id", "a/b"), ("/latest/meta-data/", "ami-id\nempty/\nlist\nn"), ("/latest", "meta-data/"),
        ("//latest///meta-data/list/0", "x"), ("/", "a/b\nlatest/"), ("/a~1b", "slash"),
    ])
    func plainAnswers(path: String, text: String) throws {
        #expect(String(decoding: try store().answer(path: path, format: .plain), as: UTF8.self) == text)
    }

    @Test func answersAsJSON() throws {
        let text = String(decoding: try store().answer(path: "/latest/meta-data/list", format: .json), as: UTF8.self)
        #expect(text == #"["x",{"y":1}]"#)
    }

    @Test func whatIsNotThereOrCannotBeShown() throws {
        for path in [
            "/none", "/latest/meta-data/list/2", "/latest/meta-data/list/00", "/latest/meta-data/ami-id/x", "/latest/meta-data/list/-1",
        ] {
            #expect(throws: MetadataStore.Missing.notFound) { try store().answer(path: path, format: .json) }
        }
        #expect(throws: MetadataStore.Missing.unsupportedType) { try store().answer(path: "/latest/meta-data/n", format: .plain) }
        #expect(throws: MetadataStore.Missing.unsupportedType) { try store().answer(path: "/latest/meta-data/list", format: .plain) }
        #expect(throws: MetadataStore.Missing.notFound) { try MetadataStore(byteLimit: 1).answer(path: "/", format: .json) }
    }

    @Test func aPatchMerges() throws {
        let store = try store(#"{"a": {"b": 1, "c": 2}, "d": 3}"#)
        try store.patch(Array(#"{"a": {"b": null, "e": {"f": 4}}, "d": [1]}"#.utf8))
        #expect(String(decoding: store.text(), as: UTF8.self) == #"{"a":{"c":2,"e":{"f":4}},"d":[1]}"#)
        #expect(String(decoding: MetadataStore(byteLimit: 9).text(), as: UTF8.self) == "{}")
    }

    @Test func limits() throws {
        func isTooLong(_ body: () throws -> Void) -> Bool {
            do { try body() } catch MetadataStore.Failure.tooLong { return true } catch { return false }
            return false
        }
        let store = MetadataStore(byteLimit: 10)
        #expect(isTooLong { try store.put(Array(#"{"abc":"def"}"#.utf8)) })
        try store.put(Array(#"{ "a" : 1 }"#.utf8))
        #expect(isTooLong { try store.patch(Array(#"{"b": "xx"}"#.utf8)) })
        #expect(String(decoding: store.text(), as: UTF8.self) == #"{"a":1}"#)
        let unlimited = MetadataStore(byteLimit: .max)
        try unlimited.put(Array(#"{"a": -1.5e3}"#.utf8))
        #expect(String(decoding: unlimited.text(), as: UTF8.self) == #"{"a":-1500}"#)
    }

    @Test(arguments: [
        ("", "not valid JSON"), ("{", "not valid JSON"), (#"{"a": {"b": 1, "b": 2}}"#, "a.b: given twice"),
        (String(repeating: "[", count: 40), "more than 32"), (#"{"a": 1,}"#, "a comma before a closing bracket"),
        ("\u{feff}{}", "byte-order mark"), (#"{"a": 1e999}"#, "a number is out of the range"),
    ])
    func textsThatAreNotJSON(_ text: String, _ reason: String) throws {
        let store = try store()
        let before = store.text()
        for change in [store.put, store.patch] {
            do throws(MetadataStore.Failure) {
                try change(Array(text.utf8))
                Issue.record("taken: \(text)")
            } catch {
                guard case .invalid(let error) = error else {
                    Issue.record("\(error)")
                    continue
                }
                #expect(error.description.contains(reason))
            }
        }
        #expect(store.text() == before)
    }

    @Test func tokensEndAndAreBounded() throws {
        let tokens = MetadataTokens()
        let first = try #require(tokens.make(seconds: 100))
        #expect(tokens.isValid(first) && !tokens.isValid(first.uppercased() + "0") && !tokens.isValid(""))
        #expect(first.utf8.count <= 70)
        for _ in 0..<MetadataTokens.capacity { #expect(tokens.make(seconds: 1) != nil) }
        #expect(!tokens.isValid(first))
        let expired = try #require(tokens.make(seconds: 0))
        #expect(!tokens.isValid(expired))
    }

    // MARK: Requests over TCP

    @Test func aGuestReadsItsData() throws {
        let guest = MetadataGuest(try store())
        #expect(guest.open())
        let answer = guest.exchange(get("/latest/meta-data/ami-id"))
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && body(answer) == "a/b")
        // The connection stays open.
        #expect(body(guest.exchange(get("/latest", "Accept: application/json\r\n"))).hasPrefix(#"{"meta-data":"#))
        #expect(guest.exchange(get("/none")).hasPrefix("HTTP/1.1 404 Not Found"))
        #expect(guest.exchange(get("/latest/meta-data/n")).hasPrefix("HTTP/1.1 501 "))
        #expect(guest.exchange("DELETE / HTTP/1.1\r\n\r\n").hasPrefix("HTTP/1.1 405 "))
        let counters = Dictionary(uniqueKeysWithValues: guest.responder.counters().map { ($0.name, $0.value) })
        #expect(counters["mmds_connections"] == 1 && counters["mmds_requests"] == 5)
    }

    @Test func version2NeedsATokenAndVersion1DoesNot() throws {
        let store = try store()
        store.configure(version: .v2, isPlainAlways: false)
        let guest = MetadataGuest(store)
        #expect(guest.open())
        #expect(guest.exchange(get("/latest")).hasPrefix("HTTP/1.1 401 "))
        #expect(guest.exchange(get("/latest", "X-metadata-token: \(String(repeating: "0", count: 64))\r\n")).hasPrefix("HTTP/1.1 401 "))
        func put(_ fields: String, _ path: String = "/latest/api/token") -> String {
            guest.exchange("PUT \(path) HTTP/1.1\r\n\(fields)\r\n")
        }
        #expect(put("").hasPrefix("HTTP/1.1 400 "))
        #expect(put("X-metadata-token-ttl-seconds: 0\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(put("X-metadata-token-ttl-seconds: 21601\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(put("X-metadata-token-ttl-seconds: x\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(put("X-metadata-token-ttl-seconds: 60\r\nX-Forwarded-For: 1.2.3.4\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(put("X-metadata-token-ttl-seconds: 60\r\n", "/other").hasPrefix("HTTP/1.1 404 "))
        let made = put("X-aws-ec2-metadata-token-ttl-seconds: 60\r\n")
        #expect(made.hasPrefix("HTTP/1.1 200 ") && made.contains("\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\n"))
        #expect(guest.exchange(get("/latest", "X-aws-ec2-metadata-token: \(body(made))\r\n")).hasPrefix("HTTP/1.1 200 "))
        store.configure(version: .v1, isPlainAlways: true)
        #expect(body(guest.exchange(get("/latest", "Accept: application/json\r\n"))) == "meta-data/")
    }

    @Test func aLongAnswerComesInSegmentsWithinTheWindow() throws {
        let long = String(repeating: "0123456789", count: 4000)
        let guest = MetadataGuest(try store(#"{"a": "\#(long)"}"#))
        guest.window = 3000
        #expect(guest.open(options: []))
        let request = Array(get("/a").utf8)
        guest.send(guest.segment([.push, .acknowledge], request))
        guest.sequence &+= UInt32(request.count)
        var received: [UInt8] = []
        var rounds = 0
        while rounds < 100 {
            rounds += 1
            var inFlight = 0
            while let answer = guest.answer() {
                #expect(answer.payload.count <= 536)
                inFlight += answer.payload.count
                if answer.sequence == guest.expected {
                    received += answer.payload
                    guest.expected &+= UInt32(answer.payload.count)
                }
            }
            #expect(inFlight <= 3000)
            if inFlight == 0 { break }
            guest.send(guest.segment(.acknowledge))
        }
        #expect(body(String(decoding: received, as: UTF8.self)) == long)
    }

    @Test func lostSegmentsAreSentAgain() throws {
        let guest = MetadataGuest(try store())
        #expect(guest.open())
        let request = Array(get("/latest/meta-data/ami-id").utf8)
        guest.send(guest.segment([.push, .acknowledge], request))
        guest.sequence &+= UInt32(request.count)
        let lost = try #require(guest.answer())
        #expect(guest.answer() == nil)
        let deadline = try #require(guest.responder.deadline)
        guest.now = deadline
        #expect(guest.responder.hasNext)
        let again = try #require(guest.answer())
        #expect(again.payload == lost.payload && again.sequence == lost.sequence)
        // The acknowledgement ends the repetitions.
        guest.expected &+= UInt32(again.payload.count)
        guest.send(guest.segment(.acknowledge))
        #expect(guest.responder.deadline == nil && guest.answer() == nil)
    }

    @Test func aRequestForAConnectionMayComeTwice() throws {
        let guest = MetadataGuest(try store())
        let start = guest.segment(.start, acknowledgement: 0)
        guest.send(start)
        let answer = try #require(guest.answer())
        guest.send(start)
        guest.sequence &+= 1
        guest.expected = answer.sequence &+ 1
        guest.send(guest.segment(.acknowledge))
        #expect(guest.answer() == nil, "the guest has the answer already")
        #expect(guest.exchange(get("/latest/meta-data/ami-id")).contains("200 OK"))
    }

    @Test func anEndAmongKnownBytesIsNone() throws {
        let guest = MetadataGuest(try store())
        #expect(guest.open())
        let (text, first) = (get("/latest/meta-data/ami-id"), guest.sequence)
        #expect(guest.exchange(String(text.prefix(8))) == "")
        guest.send(guest.segment([.end, .acknowledge], Array(text.utf8.prefix(7)), sequence: first))
        #expect(guest.exchange(String(text.dropFirst(8))).contains("200 OK"))
    }

    @Test func aGuestThatNeverAcknowledgesLosesItsConnection() throws {
        let guest = MetadataGuest(try store())
        #expect(guest.open())
        guest.send(guest.segment([.push, .acknowledge], Array(get("/latest").utf8)))
        var last: MetadataGuest.Answer?
        for _ in 0..<100 {
            while let answer = guest.answer() { last = answer }
            guard let deadline = guest.responder.deadline else { break }
            guest.now = deadline
        }
        #expect(last?.flags.contains(.reset) == true)
        #expect(guest.responder.deadline == nil)
    }

    @Test func bothSidesEndTheConnection() throws {
        let guest = MetadataGuest(try store())
        #expect(guest.open())
        #expect(guest.exchange(get("/latest", "Connection: close\r\n")).contains("Connection: close"))
        guest.send(guest.segment([.end, .acknowledge]))
        guest.sequence &+= 1
        #expect(guest.answer()?.flags == .acknowledge)
        // Nothing is left: a further segment gets a reset.
        guest.send(guest.segment(.acknowledge))
        #expect(guest.answer()?.flags == .reset)
    }

    @Test func requestsInPiecesAndTogether() throws {
        let guest = MetadataGuest(try store())
        #expect(guest.open())
        let text = get("/latest/meta-data/ami-id")
        for character in text.dropLast() { #expect(guest.exchange(String(character)) == "") }
        #expect(body(guest.exchange(String(text.last ?? "\n"))) == "a/b")
        let both = guest.exchange(text + text)
        #expect(both.components(separatedBy: "200 OK") == 3)
    }

    // MARK: Hostile guests

    @Test func bytesThatAreNoRequest() throws {
        for text in [
            "\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET x HTTP/1.1\r\n\r\n", "G\u{0}T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n",
        ] {
            let guest = MetadataGuest(try store())
            #expect(guest.open())
            #expect(guest.exchange(text).hasPrefix("HTTP/1.1 400 "), "\(text)")
        }
        let guest = MetadataGuest(try store())
        #expect(guest.open())
        var answer = ""
        for _ in 0..<5 where answer.isEmpty { answer = guest.exchange(String(repeating: "x", count: 600)) }
        #expect(answer.hasPrefix("HTTP/1.1 400 "))
    }

    @Test func framesThatAreMalformed() throws {
        let guest = MetadataGuest(try store())
        let good = guest.segment(.start, acknowledgement: 0)
        #expect(!guest.send(Array(good.prefix(33))))
        for count in 34..<good.count { guest.send(Array(good.prefix(count))) }
        for index in 14..<good.count {
            for value: UInt8 in [0, 0x0f, 0xf0, 0xff] {
                var frame = good
                frame[index] = value
                if frame != good { guest.send(frame) }
            }
        }
        #expect(guest.answer() == nil)
        #expect(!guest.send(guest.segment(.start, acknowledgement: 0, checksum: 1)) == false)
        #expect(guest.answer() == nil)
        // Without a complete checksum it counts.
        guest.send(guest.segment(.start, acknowledgement: 0, checksum: 1), isChecked: false)
        #expect(guest.answer()?.flags == [.start, .acknowledge])
        guest.send(MetadataGuest.packet(1, [UInt8](repeating: 0, count: 20), fragment: 0x2000))
        guest.send(MetadataGuest.packet(1, [UInt8](repeating: 0, count: 20), protocol: 17))
        #expect(guest.answer() == nil)
    }

    @Test func otherFramesGoToTheTap() throws {
        let guest = MetadataGuest(try store())
        var other = guest.segment(.start)
        other[33] = 1
        #expect(!guest.send(other))
        other = guest.segment(.start)
        (other[12], other[13]) = (0x86, 0xdd)
        #expect(!guest.send(other))
    }

    @Test func connectionsAndWaitingFramesAreBounded() throws {
        let guest = MetadataGuest(try store())
        for port in 1...UInt16(MetadataResponder.connectionLimit) {
            guest.port = port
            #expect(guest.open())
        }
        guest.port = 1000
        #expect(!guest.open())
        // After a time without use, a new connection takes the place of an old one.
        guest.now += 41_000_000_000
        #expect(guest.open())
        for port in 2000..<3000 as Range<UInt16> {
            guest.port = port
            guest.send(guest.segment(.acknowledge))
        }
        var frames = 0
        while guest.frame() != nil { frames += 1 }
        #expect(frames <= 64)
        guest.responder.reset()
        #expect(guest.responder.deadline == nil && !guest.responder.hasNext)
    }

    @Test func addressesAreResolved() throws {
        let guest = MetadataGuest(try store())
        let sender: [UInt8] = [0x52, 0x54, 0, 1, 2, 3]
        func request(_ target: [UInt8], operation: UInt8 = 1) -> [UInt8] {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] + sender + [8, 6, 0, 1, 8, 0, 6, 4, 0, operation] + sender + [169, 254, 0, 2]
                + [0, 0, 0, 0, 0, 0] + target
        }
        #expect(guest.send(request([169, 254, 169, 254])))
        let reply = try #require(guest.frame())
        #expect(Array(reply[0..<6]) == sender && reply[21] == 2 && Array(reply[28..<32]) == [169, 254, 169, 254])
        #expect(Array(reply[32..<38]) == sender && Array(reply[38..<42]) == [169, 254, 0, 2])
        #expect(!guest.send(request([10, 0, 0, 1])))
        #expect(guest.send(request([169, 254, 169, 254], operation: 2)) && guest.frame() == nil)
    }

    @Test func randomSegmentsEndNothing() throws {
        var random = SystemRandomNumberGenerator()
        let guest = MetadataGuest(try store())
        for round in 0..<20_000 {
            if round % 100 == 0 { _ = guest.open() }
            guest.now += UInt64.random(in: 0...400_000_000, using: &random)
            guest.port = UInt16.random(in: 1...40, using: &random)
            guest.window = UInt16.random(in: 0...2000, using: &random)
            let text = ["GET / HTTP/1.1\r\n\r\n", "GET /a", "\r\n", ""].randomElement(using: &random) ?? ""
            guest.send(
                guest.segment(
                    TCPSegment.Flags(rawValue: UInt8.random(in: 0...31, using: &random)), Array(text.utf8),
                    sequence: guest.sequence &+ UInt32.random(in: 0...3000, using: &random) &- 1500,
                    acknowledgement: guest.expected &+ UInt32.random(in: 0...3000, using: &random) &- 1500))
            for _ in 0..<UInt8.random(in: 0...3, using: &random) { _ = guest.frame() }
        }
        guest.responder.reset()
        guest.port = 99
        guest.window = 64_000
        #expect(guest.open())
    }
}

extension String {
    /// How many parts a separator makes.
    fileprivate func components(separatedBy separator: String) -> Int {
        ranges(of: separator).count + 1
    }
}
