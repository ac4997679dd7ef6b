// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import SwapBypass
@testable import SymVMM
@testable import VMMAPI
@testable import VMMBase
@testable import VMMControl
@testable import VMMModel
@testable import VMMPresentation
@testable import VMMService

/// A service that echoes. Beside SwapBypass it shows that no other module depends on a particular service.
private final class EchoService: SymbioticService, @unchecked Sendable {
    struct Configuration: ServiceConfiguration {
        let word: String

        init(option text: String) throws(VMMError) {
            guard !text.isEmpty else { throw .user("--echo: no word") }
            word = text
        }

        struct Resource: APIResource {
            var word: String

            enum CodingKeys: CodingKey, CaseIterable {
                case word
            }
        }

        init(_ received: Received<Resource>) {
            word = received.word
        }

        var resource: Resource { Resource(word: word) }

        func makeService() throws(VMMError) -> SymbioticService {
            if word == "no" { throw VMMError(call: "echo", errno: 1) }
            return EchoService(claims: EchoService.claims)
        }
    }

    static let claims = ServiceClaims(
        name: "echo", features: 1 << 20, doorbells: 0x40...0x41, symcalls: 0x140...0x141, globalPage: 0x400..<0x440)

    static func descriptor(
        _ claims: ServiceClaims = claims, key: String = "echo", option: String = "echo", path: String = "/echo-state"
    ) -> ServiceDescriptor {
        ServiceDescriptor(
            claims: claims, key: key, title: "echo", deviceCount: 2, option: .init(name: option, form: "WORD", help: "Echo."),
            configuration: Configuration.self,
            routes: { machine in
                [APIRoute(.get, path) { _ throws(APIError) in try .json(["running": machine() != nil]) }]
            },
            reportSection: ReportSection(service: "echo", html: { _ in "<p>echo</p>" }))
    }
}

@Suite struct ServiceRegistryTests {
    private func registry() throws -> ServiceRegistry {
        try ServiceRegistry([SwapBypassService.descriptor, EchoService.descriptor()])
    }

    private func resources(_ text: String) throws -> MachineResources {
        try MachineResources(json: Array(text.utf8), source: "vm.json", registry: registry())
    }

    @Test func aServiceIsConfiguredLikeAnyResource() throws {
        let swap = #""swap": {"size_bytes": 1048576, "bypass": "off"}"#
        let both = try resources(#"{"name": "vm", "echo": {"word": "a"}, \#(swap)}"#)
        #expect(both.services.map(\.key) == ["swap", "echo"], "in the registry's order")
        #expect(try JSONText.encode(both.services[1]) == Array(#"{"word":"a"}"#.utf8))
        let again = try MachineResources(json: JSONText.encode(both), source: "again", registry: registry())
        #expect(again == both)
        #expect(try both != resources(#"{"name": "vm", "echo": {"word": "b"}, \#(swap)}"#))
        var other = both
        try other.set(EchoService.descriptor().request(fromOption: "b"))
        #expect(try other.services.count == 2 && JSONText.encode(other.services[1]) == Array(#"{"word":"b"}"#.utf8))
        #expect(throws: VMMError.self) { try resources(#"{"echo": {"wort": "a"}}"#) }
        #expect(throws: VMMError.self, "not known to a program without the service") {
            try MachineResources(json: Array(#"{"echo": {"word": "a"}}"#.utf8), source: "vm.json")
        }
    }

    @Test func itsDevicesTakeRoom() throws {
        var full = try resources(#"{"name": "vm", "echo": {"word": "a"}}"#)
        func request() throws -> ServiceRequest { try EchoService.descriptor().request(fromOption: "b") }
        for index in 0..<(VirtualMachine.deviceLimit - 2) {
            full.drives.append(.init(id: "d\(index)", path: "/d"))
        }
        try full.set(request())
        full.drives.append(.init(id: "more", path: "/d"))
        #expect(throws: VMMError.self) { try full.set(request()) }
    }

    @Test func theAPIHasItsRoutes() throws {
        var resources = MachineResources(name: "vm", registry: try registry())
        resources.console = .none
        let host = try VMController(resources) { (_, _, _) throws(VMMError) in throw .host("no machine") }
        let router = try host.router(stopper: MachineStopper(host))
        func respond(_ method: APIMethod, _ target: String, _ body: String = "") -> APIResponse {
            router.respond(to: APIRequest(method: method, target: target, body: Array(body.utf8)))
        }
        #expect(respond(.put, "/echo", #"{"word": "x"}"#).status == 204)
        #expect(respond(.put, "/echo", #"{"words": "x"}"#).status == 400)
        #expect(host.resources.services.map(\.key) == ["echo"])
        #expect(String(decoding: respond(.get, "/echo-state").body, as: UTF8.self) == #"{"running":false}"#)
    }

    @Test func aServiceThatCannotBeMadeIsTheHostsMatter() throws {
        let request = try EchoService.descriptor().request(fromOption: "no")
        let error = #expect(throws: VMMError.self) { try request.makeService() }
        #expect(error?.kind == .host && error?.description.hasPrefix("echo: echo: ") == true)
    }

    @Test func theReportHasItsSection() throws {
        let report = ExitReport(name: "vm", uptimeNanoseconds: 1, exits: [], vcpus: [])
        let sections = try registry().descriptors.compactMap(\.reportSection)
        let page = try #require(ReportPage([report], events: [], sections: sections, facts: []))
        #expect(page.html.contains("<p>echo</p>"))
        #expect(!page.html.contains("Swap traffic"), "this VM has no swap disk")
    }

    @Test func whatIsClaimedTwiceIsRefused() {
        func claims(_ change: (inout ServiceClaims) -> Void) -> ServiceClaims {
            var other = ServiceClaims(name: "other")
            change(&other)
            return other
        }
        let overlaps: [(ServiceClaims, String)] = [
            (claims { $0.name = "echo" }, "the name echo belongs to echo"),
            (claims { $0.features = 3 << 19 }, "feature bits 0x100000 belongs to echo"),
            (claims { $0.doorbells = 0x41...0x50 }, "doorbell 0x41 belongs to echo"),
            (claims { $0.symcalls = 0x100...0x140 }, "symcall 0x140 belongs to echo"),
            (claims { $0.globalPage = 0x43f..<0x500 }, "byte 0x43f of the global page belongs to echo"),
            (claims { $0.features = 1 }, "feature bits 0x1 belongs to the symbiotic interface"),
            (claims { $0.doorbells = 2...2 }, "doorbell 0x2 belongs to the symbiotic interface"),
            (claims { $0.symcalls = 5...6 }, "symcall 0x5 belongs to the symbiotic interface"),
            (claims { $0.globalPage = 0x100..<0x200 }, "byte 0x100 of the global page belongs to the symbiotic interface"),
            (claims { $0.symcalls = 0x1ff...0x200 }, "symcalls end at 0x1ff"),
            (claims { $0.globalPage = 0xfff..<0x1001 }, "the global page has 4096 bytes"),
        ]
        for (other, words) in overlaps {
            let error = #expect(throws: VMMError.self) { try ServiceClaims.check([EchoService.claims, other]) }
            #expect(error?.description.contains(words) == true, "\(error?.description ?? "") for \(words)")
            #expect(throws: VMMError.self) {
                try ServiceRegistry([EchoService.descriptor(), EchoService.descriptor(other, key: "o", option: "o", path: "/o")])
            }
        }
        #expect(throws: Never.self) { try ServiceClaims.check([EchoService.claims, ServiceClaims(name: "other", features: 1 << 19)]) }
        let free = ServiceClaims(name: "other")
        for twice in [
            EchoService.descriptor(free, option: "o", path: "/o"), EchoService.descriptor(free, key: "o", path: "/o"),
            EchoService.descriptor(free, key: "o", option: "o"),
        ] {
            #expect(throws: VMMError.self) { try ServiceRegistry([EchoService.descriptor(), twice]) }
        }
        #expect(throws: Never.self) {
            try ServiceRegistry([EchoService.descriptor(), EchoService.descriptor(free, key: "o", option: "o", path: "/o")])
        }
    }

    @Test func aServiceReachesItsPartOfTheGlobalPageOnly() throws {
        let memory = try GuestMemory(byteCount: 1 << 20)
        let page = ServicePage(memory: memory, address: 0x1000, part: 0x400..<0x440)
        #expect(page.store(UInt64(7), at: 0x438) && page.load(0x438) == UInt64(7))
        for offset in [-1, 0, 0x3fc, 0x43c, 0x440, .max] {
            #expect(!page.store(UInt64(7), at: offset) && page.load(offset, as: UInt64.self) == nil)
        }
    }

    @Test func windowsLieAboveRAMAndApart() {
        var windows = WindowAllocator(ramEnd: 5 << 30, addressLimit: 1 << 36)
        let first = windows.allocate(byteCount: 4096)
        let second = windows.allocate(byteCount: 3 << 30)
        #expect(first == 1 << 35 && second == 1 << 35 + 1 << 30)
        #expect(windows.allocate(byteCount: 1 << 35) == nil && windows.allocate(byteCount: 0) == nil)
        #expect(windows.allocate(byteCount: 1 << 30) == 1 << 35 + 4 << 30, "what does not fit takes nothing")
        var small = WindowAllocator(ramEnd: 1 << 36 - 1 << 20, addressLimit: 1 << 36)
        #expect(small.allocate(byteCount: 4096) == nil)
    }
}
