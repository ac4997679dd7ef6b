// SPDX-License-Identifier: Apache-2.0

import Glibc
@testable import SwapBypass
import Synchronization
import Testing

@testable import SymVMM
@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel
@testable import VMMPresentation
@testable import VMMService

/// Texts that are too deep, too long or have too many values are refused before the parser runs, on a stack as small as that of the VMM's
/// threads.
@Suite struct JSONLimitsTests {
    /// Runs `body` on a thread with 512 KiB of stack. Returns its result and its CPU time in milliseconds.
    private func onSmallStack<Value: Sendable>(_ body: @escaping @Sendable () -> Value) throws -> (value: Value, milliseconds: Int) {
        Thread.useSmallStacks()
        let box = Box<Value>()
        let thread = try Thread(.command, "small") {
            let before = Self.milliseconds()
            let value = body()
            box.value.withLock { $0 = (value, Self.milliseconds() - before) }
        }
        thread.join()
        return try #require(box.value.withLock { $0 })
    }

    private final class Box<Value: Sendable>: Sendable {
        let value = Mutex<(Value, Int)?>(nil)
    }

    private static func milliseconds() -> Int {
        var time = timespec()
        // SAFETY: the call writes only the variable.
        _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }

    private static func nested(_ open: String, _ inside: String, _ close: String, _ count: Int) -> [UInt8] {
        Array((String(repeating: open, count: count) + inside + String(repeating: close, count: count)).utf8)
    }

    private func violation(_ bytes: [UInt8]) -> String? {
        JSONLimits.configuration.violation(bytes)
    }

    @Test func depthIsCounted() {
        for (open, close) in [("[", "]"), (#"{"a":"#, "}"), (" [ ", " ] ")] {
            #expect(violation(Self.nested(open, "1", close, 32)) == nil)
            #expect(violation(Self.nested(open, "1", close, 33))?.contains("32 arrays and objects inside one another") == true)
            // The audit's case: the brackets are never closed.
            #expect(violation(Self.nested(open, "", "", 400)) != nil)
        }
        #expect(violation(Array(String(repeating: "[],", count: 100).utf8)) == nil)
        // Surplus closing brackets do not permit more opening ones.
        #expect(violation(Array((String(repeating: "]", count: 100) + String(repeating: "[", count: 33)).utf8)) != nil)
    }

    @Test func stringsAreNotLookedInto() {
        let brackets = String(repeating: "[{,", count: 5000)
        #expect(violation(Array("[\"\(brackets)\"]".utf8)) == nil)
        #expect(violation(Array(#"["\"\#(brackets)"]"#.utf8)) == nil)
        #expect(violation(Array(#"["\\",\#(brackets)]"#.utf8)) != nil)
        #expect(violation(Array(#"["\\\"\#(brackets)"]"#.utf8)) == nil)
        // In a string that is never closed, brackets do not count.
        #expect(violation(Array(#"["\#(brackets)"#.utf8)) == nil)
    }

    @Test func valuesAndBytesAreCounted() {
        let list = { (count: Int) in Array("[\(Array(repeating: "1", count: count).joined(separator: ","))]".utf8) }
        #expect(violation(list(1022)) == nil)
        #expect(violation(list(1024))?.contains("1024 values") == true)
        #expect(violation([UInt8](repeating: 0x20, count: 1 << 20)) == nil)
        #expect(violation([UInt8](repeating: 0x20, count: (1 << 20) + 1))?.contains("1048576 bytes") == true)
    }

    /// In UTF-16 the byte of a quote may be half of another character, and the scan would take the brackets after it for part of a string.
    @Test func otherEncodingsAreRefused() {
        let text = "[\"\u{2200}\"," + String(repeating: "[", count: 100)
        for bigEndian in [false, true] {
            let bytes = text.utf16.flatMap { bigEndian ? [UInt8($0 >> 8), UInt8($0 & 0xff)] : [UInt8($0 & 0xff), UInt8($0 >> 8)] }
            #expect(violation(bytes)?.contains("zero byte") == true)
        }
    }

    /// Sends to every route that reads a body texts that would crash the process, or occupy its only worker thread.
    @Test func noRouteParsesWhatIsTooDeep() throws {
        let registry = try ServiceRegistry([SwapBypassService.descriptor])
        let host = try VMController(MachineResources(name: "vm", registry: registry)) {
            (_, _, _) throws(VMMError) in throw .host("no machine")
        }
        let router = try host.router(stopper: MachineStopper(host))
        let bodies = [
            Self.nested(#"{"a":"#, "", "", 400), Self.nested("[", "", "", 500), Self.nested("[", "1", "]", 5000),
            Self.nested(#"{"a":["#, "1", "]}", 3000), Array(("[" + String(repeating: "1,", count: 32_000) + "1]").utf8),
        ]
        let reading = router.routes.filter { $0.method != .get && $0.method != .delete }
        #expect(reading.count >= 12)
        for route in reading {
            for body in bodies {
                let target = route.pattern.replacing("{", with: "").replacing("}", with: "")
                let request = APIRequest(method: route.method, target: target, body: body)
                let (response, milliseconds) = try onSmallStack { router.respond(to: request) }
                let words = String(decoding: response.body, as: UTF8.self)
                #expect(response.status == 400 && !words.contains("\n"), "\(route.method) \(target): \(response.status) \(words)")
                #expect(milliseconds < 1000, "\(route.method) \(target): \(milliseconds) ms for \(body.count) bytes")
            }
        }
        // Some routes check other things before the body: test one that parses it.
        let deep = try onSmallStack {
            router.respond(to: APIRequest(method: .put, target: "/boot-source", body: Self.nested(#"{"a":"#, "1", "}", 400)))
        }
        #expect(String(decoding: deep.value.body, as: UTF8.self).contains("more than 32 arrays and objects inside one another"))
    }

    @Test func whatIsAllowedIsParsedQuickly() throws {
        let bodies = [
            Self.nested("[", "1", "]", 32), Self.nested(#"{"a":"#, "1", "}", 32),
            Array(("[" + Array(repeating: "-1", count: 1000).joined(separator: ",") + "]").utf8),
            Array(("[" + Array(repeating: "\"abcdefghij\"", count: 1000).joined(separator: ",") + "]").utf8),
            Array(("[" + String(repeating: "9", count: 65_000) + "]").utf8),
            Array(("[1e" + String(repeating: "9", count: 65_000) + "]").utf8),
            Array(("[0." + String(repeating: "9", count: 65_000) + "]").utf8),
            Array(("[\"" + String(repeating: "\\n", count: 32_000) + "\"]").utf8),
        ]
        for body in bodies {
            let (_, milliseconds) = try onSmallStack { (try? JSONValue(parsing: body, from: "a test")) == nil }
            #expect(milliseconds < 200, "\(milliseconds) ms for \(body.count) bytes")
        }
    }

    @Test func filesAndAnswersAreBoundedToo() throws {
        let deep = Self.nested("[", "", "", 500)
        let (refusals, _) = try onSmallStack {
            [
                (try? MachineResources(json: deep, source: "vm.json")) == nil, ReportFacts.rows(ofJSON: deep).isEmpty,
                (try? JSONText.decode(ExitReport.self, from: deep)) == nil,
            ]
        }
        #expect(refusals == [true, true, true])
        let error = #expect(throws: VMMError.self) { try MachineResources(json: deep, source: "vm.json") }
        #expect(error?.description == "vm.json: more than 32 arrays and objects inside one another")
        // A list of tasks is longer than any configuration.
        let long = Array(("[" + Array(repeating: "1", count: 100_000).joined(separator: ",") + "]").utf8)
        #expect(try JSONText.decode([Int].self, from: long).count == 100_000)
        #expect(throws: VMMError.self) { try JSONText.decode([[Int]].self, from: Self.nested("[", "1", "]", 33)) }
    }
}
